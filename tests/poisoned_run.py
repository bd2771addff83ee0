"""``firstread run`` over an archive in which one study kills the process whose model sees it, as native code would.

    python -m tests.poisoned_run SIGNAL STUDY_INSTANCE_UID CONFIG [OPTION ...]

The others go their way, those of the same batch too, as soon as they are not with it. With POISONED_STORE, the path of
a file that is not there, the first process that has stored a report makes it and dies by SIGBUS before it hears of it.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import cli
from models.drafter import Drafter
from pipeline.store.store import Store


def poison(number: signal.Signals, study_instance_uid: str) -> None:
    """Make this study deadly for the model."""
    encode: Callable[..., Any] = vars(Drafter)["encode"]

    def deadly(drafter: Drafter, studies: Any, *arguments: Any, **options: Any) -> Any:
        if any(study.study_instance_uid == study_instance_uid for study in studies):
            os.kill(os.getpid(), number)
        return encode(drafter, studies, *arguments, **options)

    Drafter.encode = deadly  # type: ignore[assignment, method-assign]


def poison_store(once: Path) -> None:
    """Die as soon as a report is stored, once."""
    save_many: Callable[..., Any] = vars(Store)["save_many"]

    def deadly(store: Store, many: Any) -> Any:
        saved = save_many(store, many)
        if saved and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGBUS)
        return saved

    Store.save_many = deadly  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    if once := os.environ.get("POISONED_STORE"):
        poison_store(Path(once))
    poison(signal.Signals[sys.argv[1]], sys.argv[2])
    sys.argv = ["firstread", "run", "--json", "--config", *sys.argv[3:]]
    cli.main()
