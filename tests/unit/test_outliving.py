"""A command outlives the process that does its work; real processes, real signals."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
from fcntl import ioctl

import pytest

from flows.environment.outliving import MOST_DEATHS, earlier, stored, whole
from flows.tally import Tally
from pipeline.ledger import LedgerState
from tests.deadly_decoder import alive
from tests.sites import environment, until

CHILD = """
import json, os, signal, sys, time
from flows.environment import outliving
from flows.tally import Tally
from pipeline.ledger import LedgerState
outliving.outlive()
print(os.getpid(), flush=True)
"""


def start(deed: str, *arguments: str, before: str = CHILD, **options: object) -> "subprocess.Popen[str]":
    """A command whose child does ``deed``."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", before + deed, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options,
    )  # fmt: skip


def test_it_ends_as_its_child_ends() -> None:
    command = start("sys.exit(5)")
    out, error = command.communicate(timeout=30)
    assert (command.returncode, error) == (5, "")
    assert int(out) != command.pid


def test_a_fault_is_followed_by_another_process_and_the_tally_is_of_all() -> None:
    deed = """
before = outliving.earlier()
if before.reported < 2:
    outliving.stored([LedgerState.REPORTED, None] + [LedgerState.FAILED] * (not before.failed))
    os.kill(os.getpid(), (signal.SIGSEGV, signal.SIGKILL)[before.reported])
print(outliving.whole(Tally(discovered=9, reported=4, unchanged=4, still_failed=1, seconds=0.001)).as_json())
"""
    command = start(deed)
    out, error = command.communicate(timeout=30)
    assert command.returncode == 0, error
    *processes, told = out.splitlines()
    assert len(set(processes)) == 3
    tally = json.loads(told)
    assert tally.pop("seconds") > 0.001
    assert tally == {
        "discovered": 9, "reported": 6, "skipped": 0, "failed": 1, "unchanged": 2, "still_failed": 0, "reinstated": 0,
    }  # fmt: skip
    assert error.splitlines() == [
        f"firstread: warning: the process that does the work was ended by {name}; another one goes on"
        for name in ("SIGSEGV", "SIGKILL")
    ]


def test_what_was_being_stored_in_the_moment_of_a_death_is_asked_of_the_ledger() -> None:
    """Of three that were being stored two rest; the process between them died before it could ask."""
    deed = """
from types import SimpleNamespace
claims = [SimpleNamespace(ledger_id=number, token=10 + number) for number in range(1, 4)]
def rested(noted):
    print(sorted(noted.items()), flush=True)
    return [LedgerState.REPORTED, LedgerState.FAILED]
if not outliving.is_begun():
    outliving.note_begun()
    outliving.learn(rested)
    outliving.storing(claims[:1])
    outliving.stored([LedgerState.REPORTED])
    outliving.storing(claims)
    os.kill(os.getpid(), signal.SIGSEGV)
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
outliving.learn(rested)
outliving.learn(rested)
print(outliving.whole(Tally(discovered=4, unchanged=3, still_failed=1)).as_json())
"""
    with tempfile.TemporaryDirectory(prefix="firstread-test-") as folder:
        command = start(deed, f"{folder}/died-twice")
        out, error = command.communicate(timeout=30)
    assert command.returncode == 0, error
    *_, asked, told = out.splitlines()
    assert asked == "[(1, 11), (2, 12), (3, 13)]"
    assert out.count(asked) == 1
    tally = json.loads(told)
    assert (tally["reported"], tally["failed"], tally["unchanged"], tally["still_failed"]) == (2, 1, 1, 0)


def test_one_that_always_dies_is_given_up() -> None:
    command = start("outliving.stored([LedgerState.SKIPPED]); os.kill(os.getpid(), signal.SIGABRT)", "--json")
    out, error = command.communicate(timeout=60)
    assert command.returncode == 3
    *processes, told = out.splitlines()
    assert len(processes) == MOST_DEATHS + 1
    assert json.loads(told)["error"]["code"] == "process-died"
    assert json.loads(told)["skipped"] == MOST_DEATHS + 1
    assert error.splitlines()[-1].startswith("firstread: process-died: ")


@pytest.mark.parametrize(
    ("number", "how", "ends"),
    [(signal.SIGTERM, "", 3), (signal.SIGINT, "", 3), (signal.SIGTERM, "ends_alike=True", -signal.SIGKILL)],
)
def test_a_stop_is_handed_on_and_nobody_follows(number: signal.Signals, how: str, ends: int) -> None:
    deed = """
def told(number, _):
    print("told", number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, told)
print("ready", flush=True)
time.sleep(60)
"""
    command = start(deed, before=CHILD.replace("outlive()", f"outlive({how})"))
    assert command.stdout is not None
    while command.stdout.readline().strip() != "ready":
        pass
    command.send_signal(number)
    out, _ = command.communicate(timeout=30)
    assert out.split() == ["told", str(int(number))]
    assert command.returncode == ends, "who was asked to stop starts nothing more"


def test_a_command_that_is_killed_leaves_no_child() -> None:
    command = start("time.sleep(60)")
    assert command.stdout is not None
    child = int(command.stdout.readline())
    command.kill()
    command.communicate(timeout=30)
    until(lambda: not alive(child), "the end of the child", 10.0)


def test_ctrl_c_at_a_terminal_is_one_interrupt() -> None:
    """The terminal tells both; what interrupts a run twice would cut off its way out."""
    deed = """
told = []
signal.signal(signal.SIGINT, lambda number, _: told.append(number))
print("ready", flush=True)
deadline = time.monotonic() + 20
while not told and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.3)
print(len(told), flush=True)
"""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        ioctl(theirs, termios.TIOCSCTTY, 0)

    command = start(deed, stdin=theirs, preexec_fn=take_terminal)
    assert command.stdout is not None
    while command.stdout.readline().strip() != "ready":
        pass
    os.write(ours, b"\x03")
    out, error = command.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert (out.strip(), command.returncode) == ("1", 0), error


@pytest.mark.parametrize("forks", [0, 1])
def test_without_a_further_process_it_works_alone_or_gives_up(forks: int) -> None:
    before = f"""
import os
plain, left = os.fork, [None] * {forks}
def fork():
    if not left:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    left.pop()
    return plain()
os.fork = fork
"""
    command = subprocess.Popen(
        [sys.executable, "-c", before + CHILD + "os.kill(os.getpid(), signal.SIGSEGV)" * forks],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    out, error = command.communicate(timeout=30)
    assert (int(out) == command.pid) is not bool(forks)
    assert command.returncode == (3 if forks else 0), error
    assert "Traceback" not in error


def test_a_process_that_nobody_outlives_counts_for_itself() -> None:
    stored([LedgerState.REPORTED])
    assert earlier() == Tally()
    assert whole(Tally(reported=1, unchanged=2)) == Tally(reported=1, unchanged=2)
