"""A run that is held at one edge until it is told to go on: ``python -m tests.held_run EDGE FOLDER CONFIG``.

At the edge it writes ``FOLDER/held`` and waits for ``FOLDER/go-on``, so that a test can change the world in between:
what a large model needs minutes for is a moment otherwise.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.sweep import sweep
from models.drafter import Drafter
from pipeline.store.store import Store

LONGEST = 60.0
EDGES: dict[str, tuple[type, str]] = {"writing": (Drafter, "write"), "saving": (Store, "save_many")}
"""Before the model writes; before what it wrote is stored."""


def hold(edge: str, folder: Path) -> None:
    """Hold the first call at ``edge``; later ones pass."""
    owner, name = EDGES[edge]
    call: Callable[..., Any] = getattr(owner, name)

    def held(*arguments: Any, **options: Any) -> Any:
        setattr(owner, name, call)
        (folder / "held").touch()
        deadline = time.monotonic() + LONGEST
        while not (folder / "go-on").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return call(*arguments, **options)

    setattr(owner, name, held)


if __name__ == "__main__":
    hold(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.write(asyncio.run(sweep(archive="main", config=sys.argv[3])).as_json() + "\n")
