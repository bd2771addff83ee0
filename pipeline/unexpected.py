"""The boundary that only our own errors pass: what anything else says may quote a patient.

An exception of a library carries values in its words (a name that cannot be encoded, a row that cannot be parsed), and
whoever catches it next writes them down: a terminal, a log, Prefect's tables and storage. Around every flow, Prefect
task, command and thread stands ``only_ours``: our errors pass; of any other one its type and the place are kept.
"""

import inspect
import logging
import os
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.errors import FirstreadError, StopRun

log = logging.getLogger(__name__)

P = ParamSpec("P")
Answer = TypeVar("Answer")
_ROOT = Path(__file__).resolve().parents[1]


def place_of(error: BaseException) -> str:
    """Type, file and line where ``error`` was raised: never its message, its notes or a value.

    The innermost frame of our own is named, with the line of the library below it.
    """
    frames = frames_of(error)
    own = [frame for frame in frames if Path(frame[0]).is_relative_to(_ROOT) and ".venv" not in frame[0]]
    told = [own[-1]] if own else []
    if frames and frames[-1] not in told:
        told.append(frames[-1])
    return " in ".join([type(error).__name__, *(f"{_short(name)}:{line}" for name, line in reversed(told))])


def frames_of(error: BaseException) -> list[tuple[str, int]]:
    """File and line of every frame that ``error`` passed, the outermost first."""
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]


def only_ours(stage: str) -> Callable[[Callable[P, Answer]], Callable[P, Answer]]:
    """Decorate a function, also a coroutine function: our errors pass, any other becomes StopRun("unexpected").

    What leaves is chained to nothing: whoever follows ``__cause__`` or ``__context__`` finds no words of another error.
    ``stage`` is said to a person. What ends the process passes.
    """

    def decorate(function: Callable[P, Answer]) -> Callable[P, Answer]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def guarded_later(*args: P.args, **named: P.kwargs) -> Any:
                try:
                    return await function(*args, **named)
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - this is the boundary
                    leaving = _leaving(stage, error)
                raise leaving

            return guarded_later  # type: ignore[return-value]

        @wraps(function)
        def guarded(*args: P.args, **named: P.kwargs) -> Answer:
            try:
                return function(*args, **named)
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - this is the boundary
                leaving = _leaving(stage, error)
            raise leaving  # outside of the handler, so that the other error is not its context

        return guarded

    return decorate


def _leaving(stage: str, error: BaseException) -> BaseException:
    ours, foreign, ending = _sorted(error)
    if ending:
        return ending[0]
    if not foreign:
        ours[0].__cause__ = ours[0].__context__ = None
        return ours[0]
    place = place_of(foreign[0])
    log.error("%s: unexpected %s", stage, place)
    return StopRun(
        "unexpected", f"{stage}: {place}; the work is kept. This is a fault of the program: report it"
    )


def _sorted(error: BaseException) -> tuple[list[FirstreadError], list[Exception], list[BaseException]]:
    """Every error in ``error``: ours, foreign ones, and what ends the process."""
    ours: list[FirstreadError] = []
    foreign: list[Exception] = []
    ending: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        elif isinstance(one, FirstreadError):
            ours.append(one)
        elif isinstance(one, Exception):
            foreign.append(one)
        else:
            ending.append(one)
    return ours, foreign, ending


def _short(name: str) -> str:
    path = Path(name)
    if path.is_relative_to(_ROOT):
        return path.relative_to(_ROOT).as_posix()
    return os.sep.join(path.parts[-2:])
