"""A signal before the command line is there: the imports take most of the time that a command needs to start.

Imported before everything else by ``flows.cli``, and at work from that moment, so this module may import next to
nothing. Only the process of the command itself is concerned, not one that imports the command line for another reason.
"""

import os
import signal
import sys
from types import FrameType

STOPPED = 3
SERVICES = ("listen", "serve")
"""Commands whose ordinary end is a signal: nothing was cut short."""
NOTHING_DONE = (
    '"discovered": 0, "reported": 0, "skipped": 0, "failed": 0, "unchanged": 0, "still_failed": 0, '
    '"reinstated": 0, "seconds": 0.0'
)
"""An empty tally (``flows.tally``) as JSON."""


def end_with(code: int) -> None:
    """All is said: a signal from now on ends the process with ``code`` and no traceback."""

    def end(_: int, __: FrameType | None) -> None:
        os._exit(code)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _end(number: int, _: FrameType | None) -> None:
    message = (
        f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'} while it started; nothing was done"
    )
    os.write(2, f"firstread: interrupted: {message}\n".encode())
    if "--json" in sys.argv:
        error = f'"error": {{"code": "interrupted", "message": "{message}"}}'
        os.write(1, f"{{{error}, {NOTHING_DONE}}}\n".encode())
    os._exit(0 if sys.argv[1:2] and sys.argv[1] in SERVICES else STOPPED)


if os.path.basename(sys.argv[0]) == "firstread":  # until ``stopping.watch_signals`` takes over
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, _end)
