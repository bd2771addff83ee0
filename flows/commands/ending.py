"""How a command ends: one line for a person, with --json one object, and the exit code.

0 all well, 1 some studies failed, 2 usage or configuration, 3 stopped. An error that we name has no traceback; of one
that we do not, the frames are shown and never its text, which may quote a header or a password.
"""

import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

import typer

from flows.commands.json_text import json_text
from flows.environment.outliving import whole
from flows.environment.stopping import stopped_by, watch_signals
from flows.tally import SOME_FAILED, STOPPED, USAGE, counted, counting
from pipeline import logs
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, SkipStudy

MOMENT_SECONDS = 0.05
"""Within which the watch has heard of a signal that came before an error."""
_told_once = threading.Lock()
_INTERRUPTED = 130
"""What typer gives for a KeyboardInterrupt."""
_ENDED_BY_SIGTERM = "TerminationSignal"
"""What Prefect raises while a flow begins or ends; it is not imported for its name."""
_USAGE_ERROR = typer.BadParameter.__bases__[0]


def run(command: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run ``command`` (a typer app) and give the exit code; whatever ends it is told once, and as JSON where asked."""
    as_json = "--json" in arguments
    counting()
    try:
        watch_signals(partial(copy_context().run, partial(_interrupted, as_json=as_json)))
        code = command(args=list(arguments), prog_name="firstread", standalone_mode=False)
    except FirstreadError as error:
        return _told(error.code, error.message, _exit_code(error), as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last place where it can be told without its text
        if isinstance(error, _USAGE_ERROR):
            return _misused(error, as_json=as_json)
        time.sleep(MOMENT_SECONDS)
        if stopped_by():  # a library that was interrupted has made an error of its own of it (pydantic does)
            return _interrupted(as_json=as_json)
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
        message = f"{type(error).__name__}, a fault of Firstread: please report the lines above, they hold no values"
        return _told("unexpected", message, STOPPED, as_json=as_json)
    except BaseException as error:
        if type(error).__name__ != _ENDED_BY_SIGTERM:
            raise
        return _interrupted(as_json=as_json)
    return _interrupted(as_json=as_json) if code == _INTERRUPTED else int(code or 0)


def _exit_code(error: FirstreadError) -> int:
    if isinstance(error, ConfigurationError):
        return USAGE
    return SOME_FAILED if isinstance(error, SkipStudy | FailStudy) else STOPPED


def _interrupted(*, as_json: bool) -> int:
    """Told once: by the command as it ends, or by the watch where it does not end."""
    if _told_once.acquire(blocking=False):
        message = f"stopped by {stopped_by() or 'Ctrl-C'}; what is stored stays, the next run does the rest"
        return _told(
            "interrupted", message, STOPPED, as_json=as_json, summary=json.loads(whole(counted()).as_json())
        )
    return STOPPED


def _misused(error: Any, *, as_json: bool) -> int:
    """A wrong option or argument; a group without a command has its help shown."""
    if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.ctx.get_help()}\n")
        return USAGE
    where = error.ctx.command_path if error.ctx is not None else "firstread"
    return _told(
        "usage", f"{error.format_message().rstrip('.')}; see `{where} --help`", USAGE, as_json=as_json
    )


def _told(
    code: str, message: str, exit_code: int, *, as_json: bool, summary: dict[str, Any] | None = None
) -> int:
    masked = logs.mask(message)
    sys.stderr.write(f"firstread: {code}: {masked}\n")
    if as_json:
        sys.stdout.write(json_text({"error": {"code": code, "message": masked}} | (summary or {})) + "\n")
    return exit_code
