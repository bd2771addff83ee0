"""A process whose exit hangs in a library ends all the same, with its own code."""

import subprocess
import sys
import time

import pytest

HANGS = """
import sys, threading, time
from flows.environment import stopping
threading._register_atexit(lambda: time.sleep(60))
print("said", flush=True)
stopping.leave_in_time(3, 0.2)
sys.exit(3)
"""


def test_an_exit_that_hangs_is_cut_short() -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (3, "said\n")
    assert time.monotonic() - begun < 40, "the hook sleeps for sixty"


UNWINDS = """
import time
from flows.environment import stopping
stopping.watch_signals(lambda: 9)
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("begun", flush=True)
    time.sleep(0.5)
    print("claims given back", flush=True)
"""


def test_a_second_sigterm_does_not_cut_off_the_way_out() -> None:
    """systemd signals each process of a service, and the first of two hands its own on (``environment.outliving``)."""
    with subprocess.Popen(
        [sys.executable, "-c", UNWINDS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for said in ("ready", "begun"):
            assert process.stdout.readline().strip() == said
            process.terminate()
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (0, "claims given back\n", "")


MADE_ANOTHER = """
import os, signal, sys, time
from flows.commands import ending
def command(**_):
    try:
        os.kill(os.getpid(), signal.{})
        time.sleep(30)
    except KeyboardInterrupt:
        raise ValueError("an error of a library's own") from None
sys.exit(ending.run(command, ["--json"]))
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interruption_that_a_library_made_its_own_error_of_is_one(number: str) -> None:
    """Found by the chaos run: pydantic, interrupted while Prefect was imported, raised PydanticSerializationError."""
    done = subprocess.run(
        [sys.executable, "-c", MADE_ANOTHER.format(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert '"code":"interrupted"' in done.stdout.replace('": "', '":"')
