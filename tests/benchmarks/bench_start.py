"""What a command costs before and after its work: this build against an older one, in one run, as ratios.

    python -m tests.benchmarks.bench_start /path/of/the/old/checkout [--only times|memory] [--rounds 7] [--films 200]

Both sides run as installed in their own ``.venv``, by turns, on the same films, each with a data folder of its own that
was used before (graphs are exported, the database is made). Seconds are wall time of the whole process; memory is the
largest sum of proportional set sizes (PSS, /proc/PID/smaps_rollup) over the command and every process it started, the
embedded Postgres and, on the old side, its Prefect server included. CPU seconds are those of the command and of what
it waited for, not of the embedded Postgres: they hold on a busy machine too. Times are medians of the rounds.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.commands.simulate import simulate
from tests.sites import environment

LOOK_SECONDS = 0.05


@dataclass
class Side:
    """One build: its programs, a site of its own, and what was measured."""

    name: str
    root: Path
    site: Path
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_mb: dict[str, list[float]] = field(default_factory=dict)

    def write(self, films: Path) -> None:
        self.site.mkdir(parents=True, exist_ok=True)
        (self.site / "firstread.toml").write_text(
            f'data_dir = "{self.site / "data"}"\n[archives.main]\nkind = "folder"\n'
            f'path = "{films}"\nmin_free_gib = 0.1\n'
        )

    def run(self, *arguments: str, measure: str = "", memory: bool = False) -> None:
        """Run a command; its seconds, or its memory, are kept under ``measure``."""
        command = [str(self.root / ".venv" / "bin" / "firstread"), *arguments]
        started, used = time.perf_counter(), _cpu_seconds()
        process = subprocess.Popen(
            command,
            cwd=self.site,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        peak = 0.0
        while memory and process.poll() is None:
            peak = max(peak, _pss_mb(str(self.site), process.pid))
            time.sleep(LOOK_SECONDS)
        _, error = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{self.name}: {' '.join(arguments)} ended with {process.returncode}\n{error}")
        if memory:
            self.peak_mb.setdefault(measure, []).append(peak)
        elif measure:
            self.seconds.setdefault(measure, []).append(time.perf_counter() - started)
            self.cpu_seconds.setdefault(measure, []).append(_cpu_seconds() - used)
        self._await_postgres()

    def _await_postgres(self) -> None:
        """The next command starts the database itself, on both sides."""
        pid = self.site / "data" / "postgres" / "cluster" / "postmaster.pid"
        deadline = time.monotonic() + 30
        while pid.exists() and time.monotonic() < deadline:
            time.sleep(0.05)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _pss_mb(site: str, root: int) -> float:
    """PSS of the command, its descendants, and the processes that work in its site's folder (Postgres, a server)."""
    parents: dict[int, int] = {}
    ours: set[int] = {root}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if site.encode() in told or os.readlink(folder / "cwd").startswith(site):
                ours.add(pid)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= more
        grown = bool(more)
    total = 0
    for pid in ours - {os.getpid()}:
        with suppress(OSError, ValueError, StopIteration):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
    return total / 1024


def prepare(sides: tuple[Side, Side], films: Path) -> None:
    """A run of each side beforehand: graphs are exported, the database is made."""
    for side in sides:
        side.write(films)
        side.run("run", "--json")


def measure_times(sides: tuple[Side, Side], films: Path, rounds: int) -> None:
    """The rows of seconds, the sides by turns."""
    written = simulate(rounds, films.with_name("spare"), seed=11, size=2048).studies
    for number in range(rounds):
        for side in sides:
            side.run("run", "--json", measure="run, nothing new")
            side.run("status", measure="status")
        new = written[number].paths
        for path in new:
            shutil.copy(path, films / f"new-{number}-{path.name}")
        for side in sides:
            side.run("run", "--json", measure="run, one new film of 2048 x 2048")


def measure_memory(sides: tuple[Side, Side], films: Path, many: int) -> None:
    """The rows of memory: three runs of one study, and a sweep of ``many`` films."""
    written = simulate(3, films.with_name("more"), seed=13, size=2048).studies
    for number in range(3):
        for path in written[number].paths:
            shutil.copy(path, films / f"mem-{number}-{path.name}")
        for side in sides:
            side.run("run", "--json", measure="peak, run of one study", memory=True)
    simulate(many, films / "many", seed=12)
    for side in sides:
        side.run("run", "--json", measure=f"peak, sweep of {many} films", memory=True)


def main() -> None:
    """Measure and print one line a row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("--only", choices=("times", "memory"), default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--films", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        films = folder / "films"
        simulate(1, films, seed=10)
        (films / "truth.jsonl").unlink(missing_ok=True)
        here = Path(__file__).resolve().parents[2]
        sides = (Side("new", here, folder / "new"), Side("old", asked.old, folder / "old"))
        prepare(sides, films)
        if asked.only != "memory":
            measure_times(sides, films, asked.rounds)
        if asked.only != "times":
            measure_memory(sides, films, asked.films)
    new, old = sides
    for told, unit in (("seconds", "s"), ("cpu_seconds", "s CPU"), ("peak_mb", "MB PSS")):
        for row, values in getattr(new, told).items():
            ours, theirs = statistics.median(values), statistics.median(getattr(old, told)[row])
            print(f"{row:36} {ours:8.2f} {unit}   old {theirs:8.2f}   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
