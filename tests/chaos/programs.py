"""Real servers and commands as processes that may be killed, stopped and started again at the same address."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

START_SECONDS = 300.0


class Program:
    """One process at a time by the same command; ``ready`` says that it can be used. Its output goes to ``log``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        environment: dict[str, str],
        ready: Callable[[], bool],
        whole_family: bool = False,
    ) -> None:
        """``whole_family``: it is stopped (SIGSTOP) together with its children."""
        self.name = name
        self.log = folder / f"{name}.log"
        self.exits: list[int] = []
        self._command = list(command)
        self._folder = folder
        self._environment = environment
        self._ready = ready
        self._whole_family = whole_family
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Of the process that runs, else 0."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Start it, and again where it ends at once, until it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                    env=self._environment, start_new_session=True,
                )  # fmt: skip
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._ready():
                    return
                time.sleep(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} does not start; read {self.log}")
            self.exits.append(self._process.returncode)
            time.sleep(0.2)

    def end(self, number: signal.Signals, seconds: float = 30.0) -> float:
        """Signal it and wait for its end, killing it after ``seconds``; gives how long it took."""
        process = self._process
        if process is None or process.poll() is not None:
            return 0.0
        begun = time.monotonic()
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.exits.append(process.returncode)
        return time.monotonic() - begun

    def stall(self, seconds: float) -> None:
        """Hold it (SIGSTOP) for so long."""
        held = family(self.pid) if self._whole_family else [self.pid]
        for pid in held:
            _signal(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in held:
            _signal(pid, signal.SIGCONT)

    def revive(self) -> None:
        """Start it where it has ended by itself."""
        with self._lock:
            if not self.pid:
                self.start()


class RunLoop:
    """``firstread run`` again and again; what came of each is kept."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / f"{name}.log"
        self.exits: list[int] = []
        self.errors: list[str] = []
        self._command = list(command)
        self._folder = folder
        self._environment = environment
        self._kills = 0
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._loop, name=name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Let the run that is on its way come to its end, and begin no other."""
        self._over.set()
        self._thread.join()

    def signal(self, number: signal.Signals, seconds: float = 0.0) -> None:
        """Signal the run that is on its way; a stopped one goes on after ``seconds``.

        Every other SIGKILL is meant for the process that does the work, as a fault of native code would be.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        if number == signal.SIGSTOP:
            held = family(process.pid)[:2]
            for pid in held:
                _signal(pid, number)
            time.sleep(seconds)
            for pid in held:
                _signal(pid, signal.SIGCONT)
            return
        self._kills += number == signal.SIGKILL
        inner = number == signal.SIGKILL and self._kills % 2
        _signal(family(process.pid)[:2][-1] if inner else process.pid, number)

    def _loop(self) -> None:
        while not self._over.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                    env=self._environment, start_new_session=True,
                )  # fmt: skip
                try:
                    self.exits.append(self._process.wait(240))
                except subprocess.TimeoutExpired:
                    self.errors.append("a run did not end in 240 s")
                    self._process.kill()
                    self.exits.append(self._process.wait())
            self._over.wait(1.0)


def family(pid: int) -> list[int]:
    """The process and all that it started, as far as they live."""
    if not pid:
        return []
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text(encoding="ascii").split():
                found += family(int(child))
    return found


def marked(mark: str) -> dict[int, str]:
    """Living processes with ``mark`` in their environment, and what they run."""
    found: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (path / "environ").read_bytes() and int(path.name) != os.getpid():
                state = (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if state != "Z":  # an init that reaps nobody leaves those
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
