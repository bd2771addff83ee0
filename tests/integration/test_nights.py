"""Nights are covered, not clocked: where a sweep goes on, what it drafts, a pause, dates that are refused."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from flows import sweep as runs
from flows.commands.simulate import simulate
from flows.environment.workplace import Workplace
from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.errors import ConfigurationError, FailStudy, StopRun
from pipeline.store.opening import open_store
from pipeline.store.values import SweepBegun
from pipeline.study import FoundStudy, HeldInstance, InstanceRef
from tests.sites import firstread, rows, write_site

MAIN = "main"


class Clock:
    """Stands for ``datetime`` in ``flows.sweep``: the moment that a test sets."""

    moment = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)

    @classmethod
    def now(cls, zone: Any) -> datetime:
        return cls.moment.astimezone(zone)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(runs, "datetime", Clock)
    return Clock


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "films").mkdir()
    (tmp_path / "others").mkdir()

    def write(**archive: Any) -> Path:
        archives = {
            MAIN: {"kind": "folder", "path": str(tmp_path / "films"), **archive},
            "others": {"kind": "folder", "path": str(tmp_path / "others")},
        }
        return write_site(tmp_path, database_url, archives)

    return write


def film(folder: Path, day: str, number: int) -> str:
    """One simulated film dated ``day`` (YYYYMMDD, "" for none) in ``folder``; returns its Study Instance UID."""
    made = simulate(1, folder / f"{number}", seed=number).studies[0].paths[0]
    dataset = pydicom.dcmread(made)
    dataset.StudyDate = day
    dataset.save_as(made)
    return str(dataset.StudyInstanceUID)


def test_only_studies_with_the_archives_modalities_are_looked_for(
    site: Callable[..., Path], tmp_path: Path
) -> None:
    """Simulated films are DX; others stay unknown to the ledger, and the audit has what was asked."""
    film(tmp_path / "films", "20261129", 1)
    assert night(site(modalities=["CT", "MR"]), days=36_500).discovered == 0
    config = site(modalities=["CR", "DX"])
    assert night(config, days=36_500).discovered == 1
    with open_store(configuration.load(config)) as store:
        text = io.BytesIO()
        store.audit_export(text)
    asked = [
        base64.b64decode(entity["query"]).decode()
        for line in text.getvalue().splitlines()
        for entity in json.loads(line)["event"].get("entity", ())
        if "query" in entity
    ]
    assert any("&ModalitiesInStudy=CT&ModalitiesInStudy=MR" in one for one in asked), asked
    with pytest.raises(ConfigurationError, match="as DICOM does"):
        configuration.load(site(modalities=["chest"]))


def night(config: Path, **asked: Any) -> Tally:
    return asyncio.run(runs.sweep(config=str(config), **({"days": 1} | asked)))


def test_an_evening_west_of_greenwich_is_covered(
    site: Callable[..., Path], clock: type[Clock], tmp_path: Path
) -> None:
    """01:30 UTC is 20:30 of the day before at UTC-5: what is dated later that evening is asked for the next night."""
    config = site()
    film(tmp_path / "films", "20261129", 1)
    clock.moment = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)
    assert night(config).reported == 1
    film(tmp_path / "films", "20261129", 2)
    film(tmp_path / "films", "20261130", 3)
    clock.moment = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)
    assert night(config).reported == 2


def test_missed_nights_are_caught_up_once(
    site: Callable[..., Path], clock: type[Clock], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = site()
    clock.moment = datetime(2026, 11, 10, 1, 30, tzinfo=UTC)
    night(config)
    film(tmp_path / "films", "20261112", 1)
    clock.moment = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)
    assert night(config).reported == 1
    assert "no sweep covered 2026-11-10 to 2026-11-19; caught up now" in caplog.text
    caplog.clear()
    clock.moment = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
    with open_store(configuration.load(config)) as store:
        assert store.sweeps.covered_until(MAIN) == date(2026, 11, 19)
    again = night(config)
    assert (again.discovered, again.reported) == (0, 0), "the week is not asked for again"
    assert "caught up" not in caplog.text


def test_a_sweep_of_one_day_does_not_hide_the_days_before_it(
    site: Callable[..., Path], clock: type[Clock], tmp_path: Path
) -> None:
    config = site()
    clock.moment = datetime(2026, 11, 10, 1, 30, tzinfo=UTC)
    night(config)
    clock.moment = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    asyncio.run(runs.sweep(config=str(config), since=date(2026, 11, 18), until=date(2026, 11, 19)))
    with open_store(configuration.load(config)) as store:
        assert store.sweeps.covered_until(MAIN) == date(2026, 11, 9)
    film(tmp_path / "films", "20261112", 1)
    assert night(config).reported == 1


def test_today_is_that_of_the_archive(site: Callable[..., Path], clock: type[Clock]) -> None:
    config = site(time_zone="America/New_York")
    clock.moment = datetime(2026, 12, 1, 1, 30, tzinfo=UTC)  # 20:30 on the 30th
    night(config)
    with open_store(configuration.load(config)) as store:
        assert store.sweeps.covered_until(MAIN) == date(2026, 11, 29)
    with Workplace(configuration.load(config)) as workplace:
        assert workplace.site(MAIN).time_zone == "America/New_York", "reports say whose day it is"
    with pytest.raises(ConfigurationError, match="time_zone"):
        configuration.load(site(time_zone="Mars/Olympus"))


def test_a_sweep_that_did_not_end_covers_nothing(
    site: Callable[..., Path], clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = site()

    async def stopped(*_: Any) -> Tally:
        raise StopRun("disk-full", "no room")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "drain", stopped)
        with pytest.raises(StopRun):
            night(config)
    with open_store(configuration.load(config)) as store:
        assert store.sweeps.covered_until(MAIN) is None


def test_a_late_run_does_not_sweep_what_was_swept_since_it_was_due(
    site: Callable[..., Path], clock: type[Clock], tmp_path: Path
) -> None:
    config = site()
    clock.moment = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    film(tmp_path / "films", "20261119", 1)
    assert night(config, due=datetime(2026, 11, 18, 1, 30, tzinfo=UTC)).discovered == 1
    assert night(config, due=datetime(2026, 11, 19, 1, 30, tzinfo=UTC)).discovered == 0
    assert night(config, due=datetime(2026, 11, 20, 9, 30, tzinfo=UTC)).discovered == 1, "due after it began"


def test_ends_told_twice_or_in_another_order_never_uncover(
    database_url: str, site: Callable[..., Path]
) -> None:
    begun = SweepBegun(MAIN, "r", date(2026, 1, 1), None, True, date(2026, 1, 5), datetime.now(UTC))
    with open_store(configuration.load(site())) as store:
        first = store.sweeps.begin(begun)
        second = store.sweeps.begin(replace(begun, since=date(2026, 1, 5), whole_until=date(2026, 1, 7)))
        for number in (second, first, first, second):
            store.sweeps.end(number)
        assert store.sweeps.covered_until(MAIN) == date(2026, 1, 7)


def test_a_pause_holds_for_every_run(site: Callable[..., Path], tmp_path: Path) -> None:
    config = site()
    film(tmp_path / "films", "20261119", 1)
    paused = firstread("pause", "--why", "new scanner", "--by", "dr", "--config", str(config), cwd=tmp_path)
    assert paused.returncode == 0, paused.stderr
    for run in (
        lambda: night(config),
        lambda: asyncio.run(runs.draft(config=str(config))),
        lambda: asyncio.run(runs.backfill(date(2026, 11, 1), date(2026, 11, 2), config=str(config))),
    ):
        with pytest.raises(StopRun, match=r"dr \(new scanner\)"):
            run()
    refused = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
    assert (refused.returncode, '"paused"' in refused.stdout) == (3, True)
    assert firstread("resume", "--config", str(config), cwd=tmp_path).returncode == 0
    assert asyncio.run(runs.sweep(config=str(config))).reported == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"since": date(2026, 1, 2), "until": date(2026, 1, 1), "days": None},
        {"days": -1},
        {"days": 40_000},
        {"days": 1, "since": date(2026, 1, 1)},
    ],
)
def test_dates_that_cannot_be_meant_are_refused(site: Callable[..., Path], asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        night(site(), **asked)


@pytest.mark.parametrize("days", [0, -7, 100_000])
def test_a_window_of_no_days_is_refused(site: Callable[..., Path], days: int) -> None:
    window = (date(2026, 1, 1), date(2026, 1, 10))
    with pytest.raises(ConfigurationError, match="window_days"):
        asyncio.run(runs.backfill(*window, window_days=days, config=str(site())))


def test_an_event_drafts_the_archive_that_its_row_names(
    site: Callable[..., Path], database_url: str, tmp_path: Path
) -> None:
    config = site()
    film(tmp_path / "others", "20261119", 1)
    found = firstread("discover", "--archive", "others", "--json", "--config", str(config), cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (row,) = rows(database_url, "SELECT ledger_id FROM firstread.ledger")
    event = f"firstread.study.{row[0]}"
    assert asyncio.run(runs.draft(archive=MAIN, study=event, config=str(config))).reported == 1
    with pytest.raises(FailStudy, match="does not exist"):
        asyncio.run(runs.draft(study="firstread.study.99", config=str(config)))


def test_what_was_pushed_is_drafted_by_the_next_sweep_whatever_its_date(
    site: Callable[..., Path], database_url: str, tmp_path: Path
) -> None:
    """Handed over while nobody acted on events, dated years ago, and unknown to its archive too."""
    config = site()
    settings = configuration.load(config)
    dated = film(tmp_path / "films", "20190101", 1)
    unknown = film(tmp_path / "pushed", "", 2)
    with open_store(settings) as store:
        for uid, path in ((dated, tmp_path / "films" / "1"), (unknown, tmp_path / "pushed" / "2")):
            file = next(path.rglob("*.dcm"))
            head = pydicom.dcmread(file)
            kept = settings.data_dir / "inbox" / file.name
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(file.read_bytes())
            held = HeldInstance(
                InstanceRef(uid, str(head.SeriesInstanceUID), str(head.SOPInstanceUID)), kept,
                hashlib.sha256(kept.read_bytes()).hexdigest(), kept.stat().st_size, str(head.SOPClassUID),
                str(head.file_meta.TransferSyntaxUID),
            )  # fmt: skip
            store.inbox.record(MAIN, [held])
            store.record_found(MAIN, "another recipe", [FoundStudy(uid, None, (), "", None, "")])
            store.inbox.hand_over(MAIN, uid, datetime.now(UTC) + timedelta(minutes=1))
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert asyncio.run(runs.sweep(config=str(config), since=yesterday)).reported == 2
    assert rows(database_url, "SELECT count(*) FROM firstread.reports") == [(2,)]
