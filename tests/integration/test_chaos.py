"""A short chaos run; a long one by hand: ``python -m tests.chaos --minutes 20 --seed N``."""

import json
import subprocess
import sys
from pathlib import Path

from tests.chaos.plan import FAULTS, TRAFFIC, draw
from tests.servers import program

ROOT = Path(__file__).resolve().parents[2]


def test_a_seed_draws_the_same_run_again_and_every_kind_in_a_long_one() -> None:
    assert draw(7, 60) == draw(7, 60)
    assert draw(7, 60) != draw(8, 60)
    faults, traffic = draw(1, 1200)
    assert {one.kind for one in faults} == set(FAULTS)
    assert {one.kind for one in traffic} == set(TRAFFIC)


def test_after_a_short_chaos_every_promise_holds(tmp_path: Path) -> None:
    program("Orthanc")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--minutes", "0.2", "--seed", "8", "--without-prefect",
         "--folder", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert (tmp_path / "site" / "outcome.json").exists(), done.stderr
    outcome = json.loads((tmp_path / "site" / "outcome.json").read_text())
    assert outcome["violations"] == []
    assert done.returncode == 0
    assert sum(outcome["faults"].values()) >= 3
    assert outcome["acknowledged"] > 0
    assert outcome["reports"] > 0
