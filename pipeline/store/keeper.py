"""The embedded server's parent: starts it, starts it again when it dies, stops it when nobody uses it.

Run as a program by ``embedded`` (standard library only, no site packages, so that it is up in milliseconds). Users
of the server hold a shared lock on the users file; the kernel drops a lock with its process, however that ended.
The keeper holds an exclusive lock on its own file for its life, so there is one at most, and an orphaned server
(its keeper was killed) is adopted by the next one through a pidfd.

    keeper.py FOLDER ADOPT_PID COMMAND...    (ADOPT_PID 0: start the server by COMMAND)

It goes into the background once it is the keeper; exit 0 says so, 1 that there already was one.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

RESTART_SECONDS = 0.25
STOP_SECONDS = 30.0
SETTLED_SECONDS = 2.0
RESTARTS = 20
"""Starts after an unexpected death; a server that dies more often than that is left down."""


class Server:
    """A running postmaster, ours or adopted, watched without races on its process id."""

    def __init__(self, pid: int, child: "subprocess.Popen[bytes] | None") -> None:
        self.pidfd = os.pidfd_open(pid)
        self.child = child
        self.killed = False

    def died_within(self, seconds: float) -> bool:
        """True as soon as the server has ended; False when it still ran after ``seconds``."""
        return self._died(seconds * 1000)

    def died_before(self, event: int) -> bool:
        """True as soon as the server has ended; False as soon as the file descriptor ``event`` can be read."""
        return self._died(None, event)

    def _died(self, milliseconds: float | None, *events: int) -> bool:
        poller = select.poll()
        for one in (self.pidfd, *events):
            poller.register(one, select.POLLIN)
        if self.pidfd not in {one for one, _ in poller.poll(milliseconds)}:
            return False
        if self.child is not None:
            self.killed = self.child.wait() < 0
        os.close(self.pidfd)
        return True

    def send(self, number: signal.Signals) -> None:
        """Signal the server; it may have ended just now."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return


def start(command: list[str]) -> Server:
    """Start the server in its own session, so that a Ctrl-C in a terminal does not reach it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
    return Server(child.pid, child)


def stop(server: Server) -> None:
    """Fast shutdown (SIGINT); an immediate one where that takes too long."""
    server.send(signal.SIGINT)
    if not server.died_within(STOP_SECONDS):
        server.send(signal.SIGQUIT)
        server.died_within(STOP_SECONDS)


def unused(users: int) -> bool:
    """True when no process holds the shared lock; the exclusive lock is then ours, and newcomers wait for us."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def when_unused(users: int) -> int:
    """A file descriptor that can be read as soon as no process holds the shared lock; the exclusive one is then ours.

    Newcomers are not kept out by our asking (flock(2): a lock that is waited for is not held); the kernel wakes us.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)

    def wait() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        os.write(tell, b"unused")

    threading.Thread(target=wait, daemon=True).start()
    return told


def keep(users: int, server: Server, command: list[str], *, settled: bool) -> None:
    """Watch the server until nobody uses it, then stop it; ``settled`` says that it has run well before.

    A server that gives up in its first seconds is left to whoever asked for it: the port or the folder is at fault.
    """
    started = time.monotonic()
    restarts = 0
    free = when_unused(users)
    while True:
        if server.died_before(free):
            settled = settled or server.killed or time.monotonic() - started > SETTLED_SECONDS
            if unused(users) or not settled or restarts >= RESTARTS:
                return
            restarts += 1
            time.sleep(RESTART_SECONDS * min(restarts, 8))
            server = start(command)
        else:
            stop(server)
            return


def main(arguments: list[str]) -> int:
    """Keep the server of one folder."""
    folder, adopt, command = Path(arguments[0]), int(arguments[1]), arguments[2:]
    own = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 1
    if os.fork():
        return 0
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    server = Server(adopt, None) if adopt else start(command)
    keep(users, server, command, settled=bool(adopt))
    # The next user must find the keeper's place free as soon as it gets past the users file.
    os.close(own)
    os.close(users)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
