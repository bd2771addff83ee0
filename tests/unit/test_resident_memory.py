"""Memory of a film that is done with goes back to the system."""

import subprocess
import sys

FILM_BYTES, FILMS = 16 << 20, 8
PROGRAM = f"""
import sys, time
from contextlib import nullcontext
from pathlib import Path
from flows.environment.resident_memory import giving_memory_back

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmRSS"))

first = bytearray({FILM_BYTES})  # malloc learns from the first that is freed
del first
before, films, kept = resident(), [], []
with giving_memory_back(0.05) if sys.argv[1] == "low" else nullcontext():
    for _ in range({FILMS}):
        films.append(bytearray(b"x") * {FILM_BYTES})
        kept.append(bytearray(200_000))  # a draft, which stays
    films.clear()
    time.sleep(1)
print((resident() - before) // 1024)
"""


def _kept_mib(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_films_that_are_freed_between_drafts_that_stay_leave_nothing_resident() -> None:
    assert _kept_mib("low") <= 8
    assert _kept_mib("as it is") >= 64  # what glibc does by itself: the limit is still needed
