"""A run on a machine whose clock is wrong: ``python -m tests.shifted_run SECONDS CONFIG``.

Every reading of the wall clock by our own modules, and ``time.time`` for all, is so many seconds ahead. (libfaketime
would shift the whole process; under it ``time.sleep`` of Python 3.11 fails.)
"""

import asyncio
import importlib
import pkgutil
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

import flows
import pipeline
from flows.sweep import sweep


class _AsDatetime(type):
    """All that ``datetime`` is and does, but for ``now``."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(datetime, name)

    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, datetime)

    def __call__(cls, *parts: Any, **named: Any) -> Any:
        return datetime(*parts, **named)  # noqa: DTZ001 - as it was called


def shift(seconds: float) -> int:
    """Put the clock wrong; gives in how many modules it was read by that name."""
    ahead, right = timedelta(seconds=seconds), time.time

    class Shifted(metaclass=_AsDatetime):
        @staticmethod
        def now(tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + ahead

    for room in (flows, pipeline):
        for one in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if one.name not in (
                "flows.deployments",
                "flows.study_event",
            ):  # of Prefect, which this run has not
                importlib.import_module(one.name)
    shifted = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith(("flows.", "pipeline.")) and getattr(module, "datetime", None) is datetime
    ]
    for module in shifted:
        module.datetime = Shifted  # type: ignore[attr-defined]
    time.time = lambda: right() + seconds
    return len(shifted)


if __name__ == "__main__":
    assert shift(float(sys.argv[1])) > 10
    sys.stdout.write(asyncio.run(sweep(archive="main", config=sys.argv[2])).as_json() + "\n")
