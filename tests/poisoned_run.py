"""A sweep over an archive in which one study kills the process that prepares it, as a fault in native code would.

    python -m tests.poisoned_run SIGNAL STUDY_INSTANCE_UID CONFIG

The study is killed over with the signal of this name while its images are decoded; the others go their way.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from flows import path
from flows.sweep import sweep

WITH_OTHERS_SECONDS = 0.5
"""The process dies after a while, so that others are in work with the study that kills it."""


def poison(number: signal.Signals, study_instance_uid: str) -> None:
    """Make the images of this study deadly."""
    prepare: Callable[..., Any] = vars(path)["prepare_for"]

    def deadly(study: Any, *arguments: Any, **options: Any) -> Any:
        if study.study_instance_uid == study_instance_uid:
            time.sleep(WITH_OTHERS_SECONDS)
            os.kill(os.getpid(), number)
        return prepare(study, *arguments, **options)

    vars(path)["prepare_for"] = deadly


if __name__ == "__main__":
    poison(signal.Signals[sys.argv[1]], sys.argv[2])
    asyncio.run(sweep(archive="main", config=sys.argv[3]))
