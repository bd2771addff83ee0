"""End to end, both sides in one run: ``python -m tests.benchmarks.bench_end_to_end [--size 2048] [--studies 90]``.

An Orthanc with simulated studies; the obvious script in sequence, on four threads, and our sweep: same weights and
precision, every draft compared text for text. Prints studies per minute and the ratios (bars: 4 and 3). Loading the
model and starting Prefect are outside the clock on both sides; the sweep runs as a Prefect flow with its tasks.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from flows.commands.simulate import simulate
from flows.environment.prefect_api import QUIET
from models.catalog import show
from pipeline import settings
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from tests.benchmarks.obvious import Script
from tests.prefect_server import prefect_server
from tests.servers import orthanc, store_over_rest
from tests.sites import rows, write_site

BARS = {"sequential": 4.0, "four threads": 3.0}


def main() -> None:
    """Run the rounds and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--studies", type=int, default=90)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--size", type=int, default=2048, help="pixels along a film's side")
    asked = arguments.parse_args()
    settings.export(QUIET)
    weights = show("firstread-mini").weights_folder
    assert weights is not None
    with (
        tempfile.TemporaryDirectory(prefix="firstread-bench-") as name,
        EmbeddedPostgres.ensure(Path(name)) as postgres,
    ):
        folder = Path(name)
        films = simulate(asked.studies, folder / "films", seed=11, size=asked.size)
        with (
            orthanc(folder / "orthanc") as peer,
            prefect_server(postgres.database_url_for("prefect"), folder) as api,
        ):
            store_over_rest(peer, *(path for study in films.studies for path in study.paths))
            script = Script.open(peer.dicomweb, weights, postgres.database_url_for("obvious", "psycopg"))
            rates: dict[str, list[float]] = {"sequential": [], "four threads": [], "firstread": []}
            for round_number in range(asked.rounds):
                theirs = _timed(rates["sequential"], asked.studies, lambda: script.run(1))
                _timed(rates["four threads"], asked.studies, lambda: script.run(4))
                url = postgres.database_url_for(f"ours_{round_number}", "psycopg")
                upgrade(url)
                config = write_site(
                    folder / f"site{round_number}", url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}}
                )
                seconds = _sweep(config, api)
                rates["firstread"].append(60 * asked.studies / seconds)
                _compare(theirs, url)
    _print(rates)


def _timed(rates: list[float], studies: int, work: Any) -> dict[str, str]:
    started = time.perf_counter()
    drafts: dict[str, str] = work()
    rates.append(60 * studies / (time.perf_counter() - started))
    return drafts


def _sweep(config: Path, api: str) -> float:
    """Seconds of one sweep, from the first query to the last commit."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.sweep import open_workplace, sweep_window

    @flow(name="benchmark", persist_result=False)
    async def measured() -> float:
        with open_workplace(str(config), "", "") as workplace:
            _ = workplace.drafter.recipe
            tally = await sweep_window(workplace, "main", None, None)
        assert tally.reported + tally.failed + tally.skipped == tally.discovered, tally
        return tally.seconds

    with temporary_settings({PREFECT_API_URL: api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        return asyncio.run(measured())


def _compare(theirs: dict[str, str], url: str) -> None:
    ours = {
        uid: f"Findings: {findings}\nImpression: {impression}"
        for uid, findings, impression in rows(
            url, "SELECT study_instance_uid, findings, impression FROM firstread.reports"
        )
    }
    different = [uid for uid, text in theirs.items() if uid in ours and ours[uid] != text]
    refused = len(theirs) - len(ours)
    print(f"drafts: {len(theirs)}, different: {len(different)}, declined or refused by us: {refused}")
    for uid in different[:3]:
        print("  theirs:", theirs[uid], "\n  ours:  ", ours[uid])


def _print(rates: dict[str, list[float]]) -> None:
    print(f"torch threads: {torch.get_num_threads()}")
    ours = statistics.median(rates["firstread"])
    for name, found in rates.items():
        median = statistics.median(found)
        line = f"{name:14} {median:8.1f} studies/min [{min(found):.1f}-{max(found):.1f}]"
        if name in BARS:
            line += f"   firstread is {ours / median:.2f} times as fast (bar {BARS[name]:g})"
        print(line)


if __name__ == "__main__":
    main()
