"""Commands and sweeps over real drafts: a setting taken back, a PDF beside, a retired draft, twins in two archives."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, EncapsulatedPDFStorage
from typer.testing import CliRunner

from flows import cli, ledger_commands, sweep
from flows.commands.simulate import WrittenStudy, simulate
from flows.environment.workplace import Workplace
from flows.standing import mended, reopen_mended
from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.archive.dimse.inbox_files import InboxFiles
from pipeline.archive.instance_file import examine
from pipeline.fhir import Site
from pipeline.ledger import Circumstances, LedgerState
from pipeline.lookup import ReportFilter
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.study import HeldInstance
from tests.integration.test_standing import sign
from tests.sites import firstread, rows, summary, write_site
from tests.store_samples import ARCHIVE, RECIPE, claim, discover, found, settled, study_uid

STUDIES = 3


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[WrittenStudy, ...]:
    return simulate(STUDIES, tmp_path_factory.mktemp("films"), seed=21, size=256).studies


def file_pdf_beside(film: Path) -> None:
    """The study's report as PDF (PS3.3 A.45.1), as a RIS files it."""
    made = pydicom.dcmread(film, stop_before_pixels=True)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        if keyword in made:
            delattr(made, keyword)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = EncapsulatedPDFStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = UID(f"{made.SOPInstanceUID}.77")
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    made.SeriesInstanceUID, made.Modality = f"{made.SeriesInstanceUID}.7", "DOC"
    made.EncapsulatedDocument = b"%PDF-1.4\n%%EOF\n"
    made["EncapsulatedDocument"].VR = "OB"
    Dataset.save_as(made, film.with_name("report.dcm"), enforce_file_format=True)


def test_what_stands_follows_the_recipe_the_films_and_the_person(
    films: tuple[WrittenStudy, ...], database_url: str, tmp_path: Path
) -> None:
    folder = films[0].paths[0].parents[1]
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(folder)}})

    def run(*arguments: str, code: int = 0) -> dict[str, float]:
        done = firstread(*arguments, "--json", "--config", str(config), cwd=tmp_path)
        assert done.returncode == code, done.stderr + done.stdout
        return summary(done)

    def in_force() -> list[tuple[Any, ...]]:
        return rows(
            database_url,
            "SELECT language, version, count(*) FROM firstread.reports GROUP BY 1, 2 ORDER BY 1, 2",
        )

    assert run("run")["reported"] == STUDIES
    assert run("run", "--language", "zh")["reported"] == STUDIES
    assert in_force() == [("zh", 2, STUDIES)]
    back = run("run")
    assert (back["reported"], back["unchanged"], back["reinstated"]) == (0, STUDIES, STUDIES)
    assert in_force() == [("en", 3, STUDIES)]

    file_pdf_beside(films[0].paths[0])
    uid = films[1].study_instance_uid
    assert run("retire", "--study", uid, "--reason", "wrong side")["retired"] == 1
    filed = run("run")
    assert (filed["reported"], filed["unchanged"]) == (0, STUDIES)
    assert in_force() == [("en", 3, STUDIES - 1)]
    held = f"SELECT held FROM firstread.studies WHERE current AND study_instance_uid = '{films[0].study_instance_uid}'"
    assert rows(database_url, held) == [(2,)], "the PDF is counted in the completeness"

    assert run("retire", "--study", uid, "--reason", "again", code=1)["retired"] == 0
    assert run("retry", "--state", "reported", "--dry-run")["reopened"] == 0
    again = run("run", "--study", uid, "--again", "--by", "Dr. Who")
    assert again["reported"] == 1
    assert sum(count for _, _, count in in_force()) == STUDIES
    asked = rows(database_url, "SELECT event ->> 'outcomeDesc', event::text FROM firstread.audit_event")
    assert any((said or "").startswith("retired: wrong side") for said, _ in asked)
    assert any(
        "Dr. Who" in event and (said or "").startswith("reopened to be drafted anew") for said, event in asked
    )
    assert run("audit", "verify")["ok"]
    kinds = rows(database_url, "SELECT DISTINCT archive, present FROM firstread.findings ORDER BY 2")
    assert kinds, "findings are there as rows"
    assert {archive for archive, _ in kinds} == {"main"}


def test_one_study_in_two_archives_has_one_report_and_says_whose(
    films: tuple[WrittenStudy, ...], database_url: str, tmp_path: Path
) -> None:
    folder = str(films[2].paths[0].parent)
    archives = {name: {"kind": "folder", "path": folder} for name in ("ct", "vna")}
    config = write_site(tmp_path, database_url, archives)
    counts = []
    for archive in ("ct", "vna"):
        done = firstread(
            "run",
            "--archive",
            archive,
            "--json",
            "--config",
            str(config),
            cwd=tmp_path,
        )
        counts.append(summary(done))
    assert (counts[0]["reported"], counts[1]["reported"], counts[1]["skipped"]) == (1, 0, 1)
    assert rows(database_url, "SELECT archive FROM firstread.reports") == [("ct",)]
    reason = rows(database_url, "SELECT code, reason FROM firstread.studies WHERE archive = 'vna'")
    assert reason[0][0] == "duplicate-study"
    assert "archive ct" in reason[0][1]


def test_files_that_were_taken_for_lost_are_found_and_drafted(
    films: tuple[WrittenStudy, ...], database_url: str, tmp_path: Path
) -> None:
    """As versions before this one settled them; one lies there, one has other bytes by now, one is gone indeed."""
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url,
        {"main": {"kind": "folder", "path": str(tmp_path / "archive")}}, listen={"quiet_seconds": 0.01},
    )  # fmt: skip
    files = InboxFiles(tmp_path / "data" / "inbox")
    held = []
    for number, one in enumerate(films):
        (tmp_path / "data" / "inbox").mkdir(parents=True, exist_ok=True)
        part = shutil.copy(one.paths[0], tmp_path / "data" / "inbox" / f"{number}.part")
        came = examine(Path(part))
        assert isinstance(came, HeldInstance)
        held.append(files.place(came).held)
    with Store(database_url) as store:
        store.inbox.record("main", held, "CT1@127.0.0.1")
        assert store.inbox.note_missing("main", held) == STUDIES
    shutil.copy(films[0].paths[0], held[1].path)
    held[2].path.unlink()

    told = firstread("reconcile", "--json", "--config", str(config), cwd=tmp_path)
    assert summary(told) == {"removed": 0, "found": 1, "handed_over": 1}, told.stderr
    run = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
    assert (run.returncode, summary(run)["reported"]) == (0, 1), run.stderr
    settled = rows(database_url, "SELECT study_instance_uid, settled_code FROM firstread.instance")
    assert dict(settled) == dict(
        zip(
            (one.study_instance_uid for one in films),
            ("reported", "file-missing", "file-missing"),
            strict=True,
        )
    )
    assert held[0].path.exists(), "no archive has it: ours is the only copy"


def test_retry_finds_what_it_is_asked_for(
    store: Store, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By study, archive, state, code and dates; told by --dry-run, which changes nothing."""
    ids = discover(store, 4)
    store.record_found("other", RECIPE, [found(9)])
    codes = ("incomplete", "too-large", "incomplete", "not-chest", "too-large")
    for held, code in zip(claim(store), codes, strict=True):
        state = LedgerState.SKIPPED if code == "not-chest" else LedgerState.FAILED
        store.settle(settled(held, state, code=code, circumstances=Circumstances("earlier", "earlier")))
    folder = {"kind": "folder", "path": str(tmp_path)}
    config = write_site(tmp_path, database_url, {ARCHIVE: folder, "other": folder})

    monkeypatch.setattr(ledger_commands, "opened_settings", lambda path, _: configuration.load(path))

    def told(*asked: str) -> list[int]:
        done = CliRunner().invoke(cli.app, ["retry", *asked, "--json", "--config", str(config)])
        answer = json.loads(done.stdout.splitlines()[-1])
        assert done.exit_code == (0 if answer["ledger_ids"] else 1)
        assert answer["reopened"] == (0 if "--dry-run" in asked else len(answer["ledger_ids"]))
        return sorted(answer["ledger_ids"])

    (other,) = store.ledger_ids("other", RECIPE, [study_uid(9)])
    dry = "--dry-run"
    assert told(dry) == [ids[0], ids[1], ids[2], other]
    assert told(dry, "--archive", "other") == [other]
    assert told(dry, "--study", study_uid(2)) == [ids[2]]
    assert told(dry, "--code", "too-large") == [ids[1], other]
    assert told(dry, "--state", "skipped") == [ids[3]]
    assert told(dry, "--since", "2026-02-02", "--until", "2026-02-03") == [ids[1], ids[2]]
    assert told(dry, "--mended", "--archive", ARCHIVE) == [ids[1]], "what another version or setting may mend"
    assert told(dry, "--study", "1.2.3") == []
    assert claim(store) == []
    assert told("--code", "incomplete", "--by", "Dr. Who") == [ids[0], ids[2]]
    assert [held.ledger_id for held in claim(store)] == [ids[0], ids[2]]
    events = rows(
        database_url, "SELECT event::text FROM firstread.audit_event WHERE event::text LIKE '%reopened%'"
    )
    assert len([1 for (event,) in events if "Dr. Who" in event]) == 2


def test_a_signed_study_that_gains_a_film_is_told_and_one_that_gains_a_pdf_stays_well(
    database_url: str, tmp_path: Path
) -> None:
    """What the signer reads by is the view of studies; the signed report stays as it is."""
    films = tmp_path / "films"
    (study,) = simulate(1, films, seed=22, size=256).studies
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(films)}})

    def swept() -> Tally:
        return asyncio.run(sweep.sweep(config=str(config)))

    assert swept().reported == 1
    ((report,),) = rows(database_url, "SELECT report_id FROM firstread.reports")
    sign(database_url, report)
    file_pdf_beside(study.paths[0])
    filed = swept()
    assert (filed.unchanged, filed.exit_code) == (1, 0)
    with Store(database_url) as store:
        assert not any(row.changed_since for row in store.report_rows(9).rows)
    late = pydicom.dcmread(study.paths[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = UID(f"{late.SOPInstanceUID}.8")
    late.save_as(films / "late.dcm")
    gained = swept()
    assert (gained.reported, gained.failed, gained.exit_code) == (0, 1, 1)
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_signer")
        told = connection.execute("SELECT code, reason FROM firstread.studies WHERE current").fetchall()
        status = connection.execute("SELECT status FROM firstread.reports").fetchall()
    assert status == [("final",)]
    ((code, reason),) = told
    assert code == "report-signed"
    assert "changed since" in reason
    with Store(database_url) as store:
        (listed,) = store.report_rows(9, "", ReportFilter(attention=True)).rows
        detail = store.report_detail(report)
        assert listed.changed_since
        assert detail is not None
        assert detail.row.changed_since


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


def place(store: Store, present: Circumstances) -> Workplace:
    """What ``flows.standing`` needs of a workplace; no model is opened."""
    site = Site(ARCHIVE, "site", "urn:site")
    return cast(
        Workplace,
        SimpleNamespace(store=store, circumstances=present, recipe_of=lambda _: RECIPE, site=lambda _: site),
    )


def test_what_an_upgrade_or_a_setting_may_mend_is_reopened_by_it(store: Store) -> None:
    here = Circumstances("program", "settings")
    ids = discover(store, 4)
    for held, code in zip(
        claim(store), ("too-large", "unexpected", "mixed-patients", "archive-busy"), strict=True
    ):
        store.settle(settled(held, LedgerState.FAILED, code=code, circumstances=here))
    assert mended(place(store, here), ARCHIVE) == ()
    assert reopen_mended(place(store, here), ARCHIVE) == 0
    assert store.record_found(ARCHIVE, RECIPE, [found(n) for n in range(4)]).failed == 4

    changed = place(store, replace(here, settings="other"))
    assert [row.ledger_id for row in mended(changed, ARCHIVE)] == [ids[0]], "told beforehand"
    assert claim(store) == []
    assert reopen_mended(changed, ARCHIVE) == 1
    assert [held.ledger_id for held in claim(store)] == [ids[0]]
    assert reopen_mended(place(store, replace(here, program="other")), ARCHIVE) == 1
    assert [held.ledger_id for held in claim(store)] == [ids[1]]

    later = place(store, here)
    later.store = cast(Store, _Tomorrow(store))
    assert reopen_mended(later, ARCHIVE) == 1
    assert [held.ledger_id for held in claim(store)] == [ids[3]]
    assert store.audit_verify().ok


class _Tomorrow:
    """The store, a day later."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now(self) -> Any:
        return self._store.now() + timedelta(days=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
