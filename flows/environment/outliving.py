"""A command's work is done in a process that the command outlives: a model's fault costs no run (decision 51).

``firstread run``, ``firstread work`` and a flow run that a worker starts are two processes. This one forks before it
has imported what drafts, or has any thread, and then holds nothing but its child, which does everything. A child that
native code ends (or the system, for want of memory) is followed by another one: the ledger knows over which studies it
died, they are tried alone, and what kills again and again rests as ``process-died`` (decision 27). Signals are the
child's to answer.

What a child was storing as it died is stored or not: the one that follows asks the ledger (``learn``), and counts it.
"""

import fcntl
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flows.tally import STOPPED, Tally
from pipeline.ledger import Claim, LedgerState

COMMANDS = ("run", "work")
MOST_DEATHS = 10
"""In ``WITHIN_SECONDS``. Each study that kills takes two alone; more is left to a person, or to what supervises us."""
WITHIN_SECONDS = 3600.0
_FAULTS = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGSYS,
        signal.SIGKILL,
    }
)
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM})
_BY_TERMINAL = 0x80
"""SI_KERNEL (sigaction(2)): Ctrl-C, which the terminal sends to the child, too."""
_COUNTED = (LedgerState.REPORTED, LedgerState.SKIPPED, LedgerState.FAILED)
_COUNTS = struct.Struct(f"={len(_COUNTED)}q")
_CLAIM = struct.Struct("=qq")
_NUMBER = struct.Struct("=q")
MOST_STORING = 4096
"""Claims that are stored at the same time; of more, those beyond may be told as unchanged after a death."""
_MESSAGE = (
    "the process that did the work died {} times within an hour, at last by {}: see the system's log; what is stored "
    "stays, the next run does the rest"
)


class _Kept:
    """What outlives a child, in memory that it shares with this process.

    Whether what was to be done once was; how many studies came to rest, and what is being stored. The last two stand
    there twice, and a byte says which of them holds: a death in the middle of a change leaves what was before.
    """

    WHICH, BEGUN, FIRST = 0, 1, 2
    LENGTH = _COUNTS.size + _NUMBER.size + MOST_STORING * _CLAIM.size

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, self.FIRST + 2 * self.LENGTH)
        self.begun = time.monotonic()

    def counts(self) -> dict[LedgerState, int]:
        """How many studies came to rest in each state."""
        return dict(zip(_COUNTED, _COUNTS.unpack_from(self.memory, self._at()), strict=True))

    def storing(self) -> dict[int, int]:
        """The token of each claim that is being stored, by ledger id."""
        at = self._at() + _COUNTS.size
        (number,) = _NUMBER.unpack_from(self.memory, at)
        at += _NUMBER.size
        return dict(_CLAIM.iter_unpack(self.memory[at : at + number * _CLAIM.size]))

    def note(
        self, states: Iterable[LedgerState | None] = (), storing: Mapping[int, int] | None = None
    ) -> None:
        """Add what came to rest, and have ``storing`` in the place of what was being stored."""
        counts, claims = self.counts(), list((storing or {}).items())[:MOST_STORING]
        for state in states:
            if state in counts:
                counts[state] += 1
        other = 1 - self.memory[self.WHICH]
        at = self.FIRST + other * self.LENGTH
        told = _COUNTS.pack(*(counts[state] for state in _COUNTED)) + _NUMBER.pack(len(claims))
        told += b"".join(_CLAIM.pack(*claim) for claim in claims)
        self.memory[at : at + len(told)] = told
        self.memory[self.WHICH] = other

    def _at(self) -> int:
        return self.FIRST + self.memory[self.WHICH] * self.LENGTH

    def tally(self) -> Tally:
        reported, skipped, failed = self.counts().values()
        seconds = time.monotonic() - self.begun
        return Tally(reported=reported, skipped=skipped, failed=failed, seconds=seconds)


_kept: list[_Kept] = []
_earlier = [Tally()]
_unheard: dict[int, int] = {}
"""What the process before this one was storing as it died: the token of each claim by ledger id."""


def storing(claims: Iterable[Claim]) -> None:
    """Note what is being stored from now on, until ``stored``. One thread at a time."""
    tokens = {claim.ledger_id: claim.token for claim in claims}
    for kept in _kept:
        kept.note(storing=tokens)


def stored(states: Iterable[LedgerState | None]) -> None:
    """Note what came to rest, so that it is told though this process should die. One thread at a time."""
    states = tuple(states)
    for kept in _kept:
        kept.note(states)


def learn(rested: Callable[[Mapping[int, int]], Iterable[LedgerState]]) -> None:
    """Count what the process before this one had stored without hearing of it.

    ``rested`` gives the states of those that rest, of rows named by ledger id with the token of their claim. Call it
    before anything is stored; asks nothing where there is nothing to learn.
    """
    if _unheard:
        states = tuple(rested(dict(_unheard)))
        _unheard.clear()
        stored(states)
        _earlier[0] = _earlier[0].plus(states)


def is_begun() -> bool:
    """Whether this command has done already, in a process that died, what it does once: reopen what is named, say."""
    return any(kept.memory[kept.BEGUN] for kept in _kept)


def note_begun() -> None:
    """It has been done; whoever follows this process does not do it again."""
    for kept in _kept:
        kept.memory[kept.BEGUN] = 1


def earlier() -> Tally:
    """What processes of this command that died had brought to rest, and how long they took."""
    return _earlier[0]


def whole(tally: Tally) -> Tally:
    """The tally of the last process of a command, as that of all of them."""
    before = earlier()
    return replace(
        tally,
        reported=tally.reported + before.reported,
        skipped=tally.skipped + before.skipped,
        failed=tally.failed + before.failed,
        unchanged=max(0, tally.unchanged - before.reported - before.skipped),
        still_failed=max(0, tally.still_failed - before.failed),
        seconds=tally.seconds + before.seconds,
    )


def outlive(*, ends_alike: bool = False) -> None:
    """Fork. The child returns from here and does the work; the process that called ends with the child's exit code.

    Where it was told to stop and a signal has ended the child, the code is 3; with ``ends_alike`` it ends by it too.

    Call it before any thread is started. Where no process can be had the caller does the work itself. SIGINT and
    SIGTERM are handed on; a child that one of them, or anything but a fault, has ended is not followed by another.
    """
    kept = _Kept()
    watched = _STOPS | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    deaths: list[float] = []
    number = 0
    while True:
        life, ours = os.pipe()
        try:
            child = os.fork()
        except OSError:  # no further process for this account
            if deaths:
                _give_up(number, len(deaths), kept.tally())
            os.close(life)
            os.close(ours)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
            return
        if not child:
            os.close(ours)
            _end_with_parent(life)
            _kept[:] = [kept]
            if deaths:
                _earlier[0] = kept.tally()
                _unheard.update(kept.storing())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
            return
        os.close(life)
        status, stopped = _end_of(child)
        os.close(ours)
        if not os.WIFSIGNALED(status):
            os._exit(os.waitstatus_to_exitcode(status))
        number = os.WTERMSIG(status)
        if stopped and not ends_alike:
            os._exit(STOPPED)
        if stopped or number not in _FAULTS:
            _end_by(number)
        now = time.monotonic()
        deaths = [*(one for one in deaths if now - one < WITHIN_SECONDS), now]
        if len(deaths) > MOST_DEATHS:
            _give_up(number, len(deaths), kept.tally())
        _say(f"warning: the process that does the work was ended by {_named(number)}; another one goes on")


def _end_of(child: int) -> tuple[int, bool]:
    """Hand on what this process is sent until the child has ended: its status, and whether it was told to stop."""
    stopped = False
    while True:
        told = signal.sigwaitinfo(_STOPS | {signal.SIGCHLD})
        if told.si_signo in _STOPS:
            stopped = True
            if told.si_code != _BY_TERMINAL:
                os.kill(child, told.si_signo)  # not reaped yet, so the number is its own
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status, stopped


def _end_with_parent(life: int) -> None:
    """The kernel ends this process (SIGIO) when the pipe's other end is closed: its parent was killed."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(life, 1)  # it had ended before we asked to be told
    except BlockingIOError:
        return
    os._exit(STOPPED)


def _end_by(number: int) -> None:
    """End as the child did."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    if number != signal.SIGKILL:  # it has no handler, and may be given none
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _give_up(number: int, deaths: int, tally: Tally) -> None:
    message = _MESSAGE.format(deaths, _named(number))
    _say(f"process-died: {message}")
    if "--json" in sys.argv:
        error = {"error": {"code": "process-died", "message": message}}
        os.write(1, f"{json.dumps(error | json.loads(tally.as_json()))}\n".encode())
    os._exit(STOPPED)


def _say(words: str) -> None:
    os.write(2, f"firstread: {words}\n".encode())


def _named(number: int) -> str:
    return signal.Signals(number).name
