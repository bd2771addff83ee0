"""A sweep that kills its own process (-9) at one edge of the ledger: ``python -m tests.killed_run EDGE CONFIG``."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from flows.sweep import sweep
from pipeline.store.store import Store

EDGES = {
    "claimed": ("claim", "after"),
    "complete": ("record_complete", "after"),
    "drafted": ("advance", "after"),
    "saving": ("save_many", "before"),
    "saved": ("save_many", "after"),
}


def arm(edge: str) -> None:
    """Make the store's call at this edge the last thing that the process does."""
    name, when = EDGES[edge]
    call: Callable[..., Any] = getattr(Store, name)

    def last(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            call(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Store, name, last)


if __name__ == "__main__":
    arm(sys.argv[1])
    asyncio.run(sweep(archive="main", config=sys.argv[2]))
