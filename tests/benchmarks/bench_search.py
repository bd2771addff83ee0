"""FHIR searches over 50,000 reports: this code against an earlier commit's, each on a database of its own schema.

    python -m tests.benchmarks.bench_search [--against 9cf15c0] [--count 50000] [--rounds 3] [--repeat 5]

The other side is the earlier commit itself, taken out of git into a folder and run by this Python. Both databases lie
on one embedded server with its defaults and hold the same reports. Rounds alternate. Prints milliseconds (median of all
searches of that kind) and the ratio, which has to be at least 5 for each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from tests.many_resources import COUNT, write_many

ROOT = Path(__file__).parents[2]
BAR = 5.0
SIDE = """
import json, sys, time
from datetime import UTC, datetime, timedelta
from pipeline.store.store import Store
from pipeline.store.migrations import upgrade
url, repeat = sys.argv[1], int(sys.argv[2])
if not repeat:
    upgrade(url)
    sys.exit()
FIRST, DAY = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=1)
YEAR, LAST = timedelta(days=365), FIRST + timedelta(minutes=10) * int(sys.argv[3])
"""
EARLIER = """
from pipeline.lookup import InstantRange, ResourceSearch
def asked(dates=(), changed=(), status=()):
    return ResourceSearch("DiagnosticReport", dates=dates, last_updated=changed, statuses=status)
def on(start): return (InstantRange(start, start + DAY),)
def since(start): return (InstantRange(start, None),)
"""
OURS = """
from pipeline.lookup import DateIs, Prefix, ResourceSearch, StatusIn
from dataclasses import replace
def asked(dates=(), changed=(), status=()):
    found = [*dates, *(replace(one, changed=True) for one in changed), *([StatusIn(status)] if status else [])]
    return ResourceSearch("DiagnosticReport", tuple(found))
def on(start): return (DateIs(Prefix.EQUAL, start, start + DAY),)
def since(start): return (DateIs(Prefix.GREATER_OR_EQUAL, start, start + timedelta(seconds=1)),)
"""
RUN = """
ASKED = {
    "date, a day": ("search", dict(dates=on(FIRST + 30 * DAY))),
    "date, a day, counted": ("count", dict(dates=on(FIRST + 30 * DAY))),
    "date, none since": ("search", dict(dates=since(LAST + DAY))),
    "_lastUpdated, a day long ago": ("search", dict(changed=on(FIRST + YEAR + 30 * DAY))),
    "_lastUpdated, the last hour, counted": ("count", dict(changed=since(LAST + YEAR - timedelta(hours=1)))),
    "_lastUpdated, none since": ("search", dict(changed=since(LAST + YEAR + DAY))),
    "_summary=count": ("count", {}),
    "status, unmatched": ("search", dict(status=("final",))),
    "status, unmatched, counted": ("count", dict(status=("final",))),
}
told = {}
with Store(url) as store:
    for name, (how, criteria) in ASKED.items():
        wanted = asked(**criteria)
        answer = getattr(store, how)(wanted)
        found = answer if how == "count" else len(answer.resources)
        seconds = []
        for _ in range(repeat):
            begun = time.perf_counter()
            getattr(store, how)(wanted)
            seconds.append(time.perf_counter() - begun)
        told[name] = [found, seconds]
print(json.dumps(told))
"""


def side(code: Path, text: str, *arguments: str) -> str:
    """Run one side in the folder of its code; gives its standard output."""
    command = [sys.executable, "-c", text, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def take_out(commit: str, folder: Path) -> None:
    """The tree of ``commit`` in ``folder``."""
    packed = subprocess.run(
        ["git", "archive", commit, "pipeline", "sql"], cwd=ROOT, capture_output=True, check=True
    )
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)


def main() -> int:
    """Measure, print, and tell by the exit code whether every bar was met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", default="9cf15c0")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        take_out(chosen.against, folder / "earlier")
        with EmbeddedPostgres.ensure(folder / "postgres") as server:
            earlier, ours = (server.database_url_for(one, "psycopg") for one in ("earlier", "ours"))
            side(folder / "earlier", SIDE, earlier, "0")
            upgrade(ours)
            for one in ("earlier", "ours"):
                write_many(server.admin_conninfo(one), chosen.count)
            sides = {"earlier": (folder / "earlier", EARLIER, earlier), "ours": (ROOT, OURS, ours)}
            return report(measured(sides, chosen.rounds, chosen.repeat, chosen.count), chosen.against)


def measured(
    sides: dict[str, tuple[Path, str, str]], rounds: int, repeat: int, count: int
) -> dict[str, dict[str, tuple[int, list[float]]]]:
    """Matches and seconds, by side and search."""
    found: dict[str, dict[str, tuple[int, list[float]]]] = {name: {} for name in sides}
    for _ in range(rounds):
        for name, (code, vocabulary, url) in sides.items():
            told = json.loads(side(code, SIDE + vocabulary + RUN, url, str(repeat), str(count)))
            for search, (matches, seconds) in told.items():
                known = found[name].setdefault(search, (matches, []))
                known[1].extend(seconds)
    return found


def report(found: dict[str, dict[str, tuple[int, list[float]]]], against: str) -> int:
    """Print the table; 1 where a ratio is below the bar or the sides disagree."""
    well = True
    print(f"{'search':40s} {'found':>6s} {against:>9s} ms   ours ms  ratio")
    for search, (matches, seconds) in found["ours"].items():
        others, slow = found["earlier"][search]
        before, now = statistics.median(slow) * 1000, statistics.median(seconds) * 1000
        well = well and before / now >= BAR and matches == others
        differ = "" if matches == others else f"  DIFFERS: {others}"
        print(f"{search:40s} {matches:6d} {before:12.2f} {now:9.2f} {before / now:6.1f}{differ}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
