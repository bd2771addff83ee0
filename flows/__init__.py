"""Prefect flows and the command line: the only place that joins neighbouring steps.

The path of a study, in reading order:

- ``sweep``: the runs; discover, then draft. ``deployments``: the same as Prefect flows, recorded
- ``discover``: ask the archive what it has, and write it to the ledger
- ``drain``: lanes that move many studies along the path at the same time; ``stages``: what each lane does
- ``path``: what happens to one study; ``fetching``, ``received``, ``priors``, ``given``: where its images, an earlier
  film and the words beside them come from
- ``tally``: what a run came to; ``study_event``: the event that starts drafting when a PACS pushes

``cli`` is the command line (``ask_command``, ``command_groups`` and ``ledger_commands`` are parts of it), ``commands``
what its commands do, ``environment`` what they all hold open.
"""
