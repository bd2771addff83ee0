"""What whoever watches over a site is told: how its listener is, and which days no complete sweep covers."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx

from flows.environment.listener_health import FILE
from flows.uncovered import UncoveredDays, uncovered_days
from pipeline import settings as configuration
from pipeline.store.store import Store
from pipeline.store.values import SweepBegun
from tests.integration.test_listener import films, listening
from tests.servers import Peer, free_port, store
from tests.sites import environment, firstread, running, until, write_site


def status(config: Path) -> dict[str, Any]:
    done = firstread("status", "--json", "--config", str(config), cwd=config.parent)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_status_and_health_tell_a_listener_that_is_well_from_one_that_is_not(
    database_url: str, tmp_path: Path
) -> None:
    port, page, (film,) = free_port(), free_port(), films(tmp_path, 1)
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}, serve={"port": page},
    )  # fmt: skip
    health = f"http://127.0.0.1:{page}/health"
    command = [str(Path(sys.executable).with_name("firstread")), "serve", "--config", str(config)]
    with running(command, tmp_path / "serve.log", cwd=tmp_path, env=environment()):
        until(lambda: "review page" in (tmp_path / "serve.log").read_text(), "the page")
        assert status(config)["listener"] is None
        assert httpx.get(f"{health}?listener").status_code == 404
        assert httpx.get(health).status_code == 204
        with listening(config, port) as process:
            store(Peer("FIRSTREAD", port), film)
            until(
                lambda: bool((status(config)["listener"] or {}).get("received_at")),
                "word of what it received",
                30,
            )
            told = status(config)["listener"]
            assert told["listener"] == f"FIRSTREAD on 127.0.0.1:{port}"
            assert told["condition"] == "well"
            assert 0 <= told["associations"] <= told["places"] == 64
            assert abs(datetime.fromisoformat(told["received_at"]) - datetime.now(UTC)).total_seconds() < 120
            answer = httpx.get(f"{health}?listener")
            assert (answer.status_code, answer.json()["condition"]) == (200, "well")
            shown = firstread("status", "--config", str(config), cwd=tmp_path).stdout
            assert f"listener FIRSTREAD on 127.0.0.1:{port}: well; " in shown
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        path = tmp_path / "data" / FILE
        left = json.loads(path.read_text())
        path.write_text(json.dumps(left | {"at": time.time() - 61}))
        assert status(config)["listener"]["condition"] == "silent"
        answer = httpx.get(f"{health}?listener")
        assert (answer.status_code, answer.json()["condition"]) == (503, "silent")
        path.write_text(json.dumps(left | {"at": time.time(), "hears": False}))
        assert httpx.get(f"{health}?listener").json()["condition"] == "deaf"
        path.write_text(json.dumps(left | {"at": time.time(), "database": "away"}))
        assert status(config)["listener"]["condition"] == "database away"


def test_status_names_the_days_that_no_complete_sweep_covers(database_url: str, tmp_path: Path) -> None:
    archives = {
        "main": {"kind": "folder", "path": str(tmp_path), "time_zone": "America/New_York"},
        "other": {"kind": "folder", "path": str(tmp_path)},
    }
    settings = configuration.load(write_site(tmp_path, database_url, archives))
    with Store(database_url) as opened:
        for whole, ends in ((date(2026, 11, 20), True), (date(2026, 11, 24), False)):
            begun = SweepBegun("main", "r", whole, None, True, whole, datetime(2026, 11, 21, tzinfo=UTC))
            number = opened.sweeps.begin(begun)
            if ends:
                opened.sweeps.end(number)
        night = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)  # the evening of the 23rd in New York
        assert uncovered_days(settings, opened, None, night) == (
            UncoveredDays("main", date(2026, 11, 21), date(2026, 11, 22)),
        )
        assert uncovered_days(settings, opened, "other", night) == ()
        assert uncovered_days(settings, opened, None, datetime(2026, 11, 21, 12, tzinfo=UTC)) == ()
    told = status(settings.data_dir.parent / "firstread.toml")
    assert told["uncovered"][0]["since"] == "2026-11-21"
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("firstread")), "status"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert "archive main: no complete sweep covers 2026-11-21" in shown
