"""A process whose exit hangs in a library ends all the same, with its own code."""

import subprocess
import sys
import time

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
