"""How a command is stopped: SIGTERM as Ctrl-C, within seconds, whatever it is doing.

The first signal cancels what runs, and everything unwinds: claims are given back, folders removed, sessions closed.
A call that cannot be interrupted (a model at work, a query that stalls) is not waited for: a watch, woken by the
signal itself, ends the process after ``SECONDS``, and what it held is freed by its end.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SECONDS = 4.0
CHILDREN_SECONDS = 0.3
PREFECT_SECONDS = 20.0
"""What Prefect is given to send its last events."""
LANE = "lane"
_asked: list[int] = []
_watching: list[bool] = []
_interrupted: list[bool] = []


def watch_signals(last_words: Callable[[], int]) -> None:
    """From now on SIGTERM does what SIGINT does, and either ends the process in time.

    ``last_words`` are told where the process does not end by itself; they return the exit code.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _as_interrupt)
    _watching[:] = [True]
    _interrupted.clear()
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer, last_words), name="stopping", daemon=True).start()


def watch_again() -> None:
    """A library has put its own handler in place of ours (Prefect does, for the time of a flow): ours again.

    Without effect where no command is watched, and in other threads, which may not.
    """
    if _watching and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_interrupt)


def stopped_by() -> str:
    """What stopped this process, for a person; "" where nothing did."""
    if not _asked:
        return ""
    return "Ctrl-C" if _asked[0] == signal.SIGINT else "SIGTERM"


def left_over() -> bool:
    """Whether a lane's thread is still at a call that nobody waits for."""
    return any(one.name.startswith(LANE) and one.is_alive() for one in threading.enumerate())


def leave(code: int) -> NoReturn:
    """End the process now, its own children too, without waiting for threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    for number in (signal.SIGTERM, signal.SIGKILL):
        children = _children()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        if children and number == signal.SIGTERM:
            time.sleep(CHILDREN_SECONDS)
    os._exit(code)


def leave_in_time(code: int, seconds: float = PREFECT_SECONDS) -> None:
    """All is said and stored: end the process after ``seconds`` should something keep it from ending by itself.

    Prefect waits at the interpreter's exit until its events are taken, without a limit, and a server that was lost in
    the middle of a run never takes them.
    """

    def end() -> None:
        time.sleep(seconds)
        leave(code)

    threading.Thread(target=end, name="leaving", daemon=True).start()


class LaneThreads(ThreadPoolExecutor):
    """The threads of a run's lanes. A loop that ends does not wait for a call that cannot be interrupted."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix=LANE)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; what is at work is left."""
        logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL)  # of answers that nobody waits for
        super().shutdown(wait=False, cancel_futures=True)


def _as_interrupt(_: int, frame: FrameType | None) -> None:
    """Once: whoever stops a service tells each of its processes, and ours hands it on to us (``outliving``)."""
    if _interrupted:
        return
    _interrupted.append(True)
    handler: Any = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


def _watch(reader: socket.socket, _writer: socket.socket, last_words: Callable[[], int]) -> None:
    while (number := reader.recv(1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    _asked.append(number)
    time.sleep(SECONDS)
    leave(last_words())


def _children() -> list[int]:
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError, ValueError):
            found += [int(one) for one in path.read_text(encoding="ascii").split()]
    return found
