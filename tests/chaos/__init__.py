"""A chaos run: faults drawn at random against real servers, and the oracles asked when they have stopped.

    python -m tests.chaos --minutes 20 --seed 1

- ``plan``: what happens when, drawn from the seed alone, so that a seed can be run again
- ``programs``: Orthanc, Postgres, Prefect, the listener and the runs as processes that may be killed, stopped, started
- ``world``: the studies there are and what the senders were told; ``traffic``: what arrives, changes and goes
- ``site``: all of it in one folder; ``faults``: what is done to it
- ``oracles``: what has to hold at the end
"""
