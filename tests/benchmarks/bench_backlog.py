"""A long ledger against a short one: ``python -m tests.benchmarks.bench_backlog [--long 2000] [--short 100]``.

Each size is drafted by a process of its own from a folder of simulated studies; prints studies per minute and the peak
resident memory of both. Bars: the same rate within 10 %, the same memory within 50 MB.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.commands.simulate import simulate
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from tests.prefect_server import prefect_server
from tests.sites import environment, write_site

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draft both backlogs, twice each in turn, and print the ratio."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--long", type=int, default=2000)
    arguments.add_argument("--short", type=int, default=100)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--child", default="")
    asked = arguments.parse_args()
    if asked.child:
        _child(Path(asked.child))
        return
    with (
        tempfile.TemporaryDirectory(prefix="firstread-bench-") as name,
        EmbeddedPostgres.ensure(Path(name)) as postgres,
    ):
        folder = Path(name)
        with prefect_server(postgres.database_url_for("prefect"), folder) as api:
            measured: dict[int, list[tuple[float, float]]] = {asked.short: [], asked.long: []}
            for studies in measured:
                simulate(studies, folder / f"films{studies}", seed=studies)
            for round_number in range(asked.rounds):
                for studies, found in measured.items():
                    url = postgres.database_url_for(f"backlog_{studies}_{round_number}", "psycopg")
                    upgrade(url)
                    site = folder / f"site{studies}_{round_number}"
                    archive = {"kind": "folder", "path": str(folder / f"films{studies}")}
                    found.append(_draft(write_site(site, url, {"main": archive}), api))
                    print(
                        f"{studies} studies: {found[-1][0]:.1f} studies/min, peak {found[-1][1]:.0f} MB",
                        flush=True,
                    )
    _print(measured, asked.short, asked.long)


def _print(measured: dict[int, list[tuple[float, float]]], short: int, long: int) -> None:
    best = {
        studies: (max(rate for rate, _ in found), min(peak for _, peak in found))
        for studies, found in measured.items()
    }
    ratio = best[long][0] / best[short][0]
    print(f"rate of {long} against {short}: {ratio:.3f} (bar: 0.9 or more)")
    print(f"peak memory of {long} beyond {short}: {best[long][1] - best[short][1]:.0f} MB (bar: 50)")


def _draft(config: Path, api: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_backlog", "--child", str(config)],
        cwd=ROOT, env=environment(api), capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["rate"], answer["peak_mb"]


def _child(config: Path) -> None:
    from prefect import flow

    from flows.sweep import open_workplace, sweep_window
    from flows.tally import Tally

    @flow(name="benchmark", persist_result=False)
    async def measured() -> Tally:
        with open_workplace(str(config), "", "") as workplace:
            _ = workplace.drafter.recipe
            return await sweep_window(workplace, "main", None, None)

    tally = asyncio.run(measured())
    # Not ru_maxrss: a child inherits that of the process it was forked from.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    print(
        json.dumps({"rate": 60 * tally.discovered / tally.seconds, "peak_mb": peak, "failed": tally.failed})
    )


if __name__ == "__main__":
    main()
