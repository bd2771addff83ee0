"""The recipe of the model, asked of it in a process of its own.

The listener needs to know it and never drafts: so it holds no model in memory, and the export of a graph, which keeps
every thread of its process waiting, does not keep a sender waiting.
"""

import multiprocessing
import os
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from flows.environment.workplace import Workplace
from pipeline.errors import ConfigurationError, FirstreadError, RetryLater, StopRun
from pipeline.settings import Settings

_OPENING_SECONDS = 1800.0
_KINDS: dict[str, type[FirstreadError]] = {
    one.__name__: one for one in (ConfigurationError, StopRun, RetryLater)
}


def asked_recipe(settings: Settings) -> str:
    """Open the model in another process, which ends with this one, and give its recipe.

    Raises what opening it raises.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_say_recipe, args=(settings, theirs), name="recipe", daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_OPENING_SECONDS):
            raise RetryLater("model-slow", "the model did not open within half an hour")
        kind, code, message = ours.recv()
    except EOFError:
        raise RetryLater(
            "model-died", "the process that opened the model died; see the system's log"
        ) from None
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
    if kind:
        raise _KINDS.get(kind, StopRun)(code, message)
    return str(message)


def _say_recipe(settings: Settings, listener: Connection) -> None:
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()
    try:
        answer = ("", "", Workplace(settings).drafter.recipe)
    except FirstreadError as error:
        answer = (type(error).__name__, error.code, error.message)
    except Exception as error:  # noqa: BLE001 - the class is told, the text may hold anything
        answer = ("StopRun", "model", f"the model cannot be opened ({type(error).__name__})")
    with suppress(OSError):  # who asked may have been killed at this moment
        listener.send(answer)


def _end_with_the_parent() -> None:
    """A daemon ends with a parent that ends well, not with one that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
