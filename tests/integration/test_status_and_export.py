"""``status``, ``export``, ``db url`` and ``db shell`` over a ledger in a real Postgres, as the command prints them."""

import base64
import csv
import io
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app
from flows.commands import ending
from pipeline.ledger import LedgerState
from pipeline.store.store import Store
from pipeline.study import HeldInstance, InstanceRef
from tests.sites import rows, write_site
from tests.store_samples import claim, discover, found, outcome, settled, study_uid

FAILURES, SKIPPED = 25, 3
OTHER_RECIPE = "o" * 64


@pytest.fixture
def site(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two reports, more failures than a screen has, skipped studies; an older recipe that left one behind."""
    with Store(database_url) as store:
        store.record_found("main", OTHER_RECIPE, [found(0)])
        discover(store, 2 + FAILURES + SKIPPED)
        held = claim(store)
        for one in held[:2]:
            store.save(outcome(one))
        for number, one in enumerate(held[2 : 2 + FAILURES]):
            code = "decode" if number % 2 else "archive-error"
            later = datetime.now(UTC) + timedelta(hours=1) if number == 0 else None
            message = (
                f"failure {number} of the kind that has a rather long sentence about what happened to it"
            )
            store.settle(settled(one, LedgerState.FAILED, code=code, message=message, next_attempt_at=later))
        for one in held[2 + FAILURES :]:
            store.settle(
                settled(one, code="not-radiograph", message="not a projection radiograph (Modality)")
            )
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path)}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return config


def told(arguments: list[str], capsys: pytest.CaptureFixture[str], exit_code: int = 0) -> str:
    """Standard output of a command."""
    assert ending.run(app, arguments) == exit_code
    return capsys.readouterr().out


def told_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """The object on the last line."""
    return json.loads(told([*arguments, "--json"], capsys).splitlines()[-1])


def test_status_says_what_was_received_and_waits(
    site: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told_json(["status"], capsys)["received"] == []
    uid = study_uid(90)
    ref = InstanceRef(uid, f"{uid}.1", f"{uid}.1.1")
    instance = HeldInstance(ref, Path("/inbox/1.dcm"), "d1", 100, "1.2.840.1", "1.2.840.10008.1.2.1")
    with Store(database_url) as store:
        store.inbox.record("main", [instance])
    (waiting,) = told_json(["status"], capsys)["received"]
    assert (waiting["archive"], waiting["studies"]) == ("main", 1)
    assert 0 <= waiting["seconds_ago"] < 60
    assert told(["status"], capsys).startswith("main: 1 received and not handed over yet")
    assert "received" not in told(["status", "--state", "failed"], capsys)
    with Store(database_url) as store:
        (quiet,) = store.inbox.quiet_studies(0)
        store.inbox.hand_over("main", uid, quiet.newest)
    assert "not handed over" not in told(["status"], capsys)


def test_status_shows_every_failure_and_groups_the_skips(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = told(["status"], capsys)
    assert max(map(len, shown.splitlines())) <= 80
    listed = [
        line.split()
        for line in shown.partition("Failed, last changed first")[2].splitlines()[2:]
        if line[:1].isdigit()
    ]
    assert len(listed) == FAILURES
    assert "not-radiograph" in shown
    assert shown.count("not-radiograph") == 1
    assert "a person looks" not in shown
    for identifier in (study_uid(1), "ACC1"):
        assert identifier not in shown
    told_all = told_json(["status"], capsys)
    assert {(one["state"], one["studies"], one["older"]) for one in told_all["counts"]} == {
        ("discovered", 0, 1),
        ("reported", 2, 0),
        ("failed", FAILURES, 0),
        ("skipped", SKIPPED, 0),
    }
    assert {(one["code"], one["studies"]) for one in told_all["reasons"]} == {
        ("archive-error", 13),
        ("decode", 12),
        ("not-radiograph", SKIPPED),
    }
    assert len(told_all["rows"]) == FAILURES
    assert all("study_instance_uid" not in one for one in told_all["rows"])
    assert sum(one["next_attempt_at"] is not None for one in told_all["rows"]) == 1


def test_status_filters(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def numbers(*arguments: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = told_json(["status", *arguments], capsys)["rows"]
        return listed

    assert {one["state"] for one in numbers("--state", "skipped")} == {"skipped"}
    assert len(numbers("--code", "decode")) == 12
    assert len(numbers("--state", "reported", "--state", "skipped")) == 2 + SKIPPED
    assert numbers("--archive", "ct", "--state", "failed") == []
    (one,) = numbers("--state", "reported", "--until", "2026-02-01")
    assert one["state"] == "reported"
    (named,) = numbers("--study", study_uid(0))
    assert (named["study_instance_uid"], named["accession_number"]) == (study_uid(0), "ACC-7")
    (named,) = numbers("--accession", "ACC9")
    assert (named["study_instance_uid"], named["study_date"]) == (study_uid(9), "2026-02-10")
    assert numbers("--state", "skipped", "--identify")[0]["study_instance_uid"].startswith("2.25.")
    shown = told(["status", "--accession", "ACC9"], capsys)
    assert f"  {study_uid(9)}\n" in shown
    assert "the ledger has no such study" in told(["status", "--study", "1.2.3"], capsys)
    assert ending.run(app, ["status", "--state", "lost"]) == 2


def test_export_without_identifiers_leads_to_nobody(
    site: Path, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    lines = [json.loads(line) for line in told(["export"], capsys).splitlines()]
    assert [(one["notice"], one["status"]) for one in lines] == [
        ("machine-made draft, not read by a radiologist", "partial")
    ] * 2
    assert lines[0]["study"] in {
        number for (number,) in rows(database_url, "SELECT ledger_id FROM firstread.studies")
    }
    assert lines[0]["study_year"] == 2026
    assert lines[0]["findings_text"] == "There is a moderate left pleural effusion. No pneumothorax."
    (effusion, pneumothorax) = lines[0]["findings"]
    assert (effusion["kind"], effusion["side"], effusion["confidence"]) == ("pleural_effusion", "left", 0.93)
    assert effusion["box"] == [1203.25, 1400.0, 1700.5, 1900.75]
    assert pneumothorax["present"] is False
    whole = json.dumps(lines)
    for identifier in ("2.25.100", "ACC-7", "Invented", "P1000", "2026-02", "report-1000", "patient-1000"):
        assert identifier not in whole


def test_export_removes_what_a_text_says_of_the_patient(
    database_url: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(database_url) as store:
        store.record_found("main", "r" * 64, [found(90)])
        (held,) = claim(store)
        made = outcome(held).draft
        text = "Invented 1090 was seen on 2026-02-28 under ACC-7 by Dr. Somebody. No pneumothorax."
        store.save(outcome(held, draft=replace(made, findings_text=text)))
    lines = told(["export"], capsys)
    for identifier in ("1090", "Invented", "ACC-7", "Somebody", "02-28"):
        assert identifier not in lines
    assert "No pneumothorax." in lines
    assert "Invented 1090 was seen" in told(["export", "--identifiers"], capsys)


def test_export_as_csv_with_identifiers(
    site: Path, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    table = list(csv.DictReader(io.StringIO(told(["export", "--format", "csv", "--identifiers"], capsys))))
    assert [one["study_instance_uid"] for one in table] == [study_uid(0), study_uid(1)]
    assert (table[0]["patient_id"], table[0]["patient_name"]) == ("P1000", "Invented 1000")
    assert json.loads(table[0]["findings"])[0]["kind"] == "pleural_effusion"
    assert table[0]["accession_number"] == "ACC-7"
    assert told(["export", "--format", "csv", "--since", "2026-03-02"], capsys) == ""
    with Store(database_url) as store, io.BytesIO() as chain:
        store.audit_export(chain)
        exported = [line for line in chain.getvalue().decode().splitlines() if '"110106"' in line]
    assert len(exported) == 2
    assert base64.b64encode(b"format=csv&identifiers=true").decode() in exported[0]


def test_export_to_a_file_is_private_and_never_overwrites(
    site: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "drafts.jsonl"
    assert told_json(["export", "--out", str(file)], capsys) == {"exported": 2, "identifiers": False}
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2
    assert ending.run(app, ["export", "--out", str(file)]) == 2
    assert ending.run(app, ["export", "--format", "xml"]) == 2
    assert ending.run(app, ["export", "--archive", "nowhere"]) == 2


def test_the_address_has_no_password_unless_asked(
    site: Path, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    secret = database_url.partition("://")[2].partition(":")[2].partition("@")[0]
    shown = told(["db", "url"], capsys).strip()
    assert secret not in shown
    assert shown == database_url.replace("+psycopg", "").replace(f":{secret}", "")
    assert told(["db", "url", "--with-password"], capsys).strip() == database_url.replace("+psycopg", "")
    assert told_json(["db", "url"], capsys) == {"url": shown, "embedded": False}


@pytest.mark.parametrize("psql", [True, False])
def test_the_prompt_reads_and_changes_nothing(
    site: Path, psql: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not psql:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    elif shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    script = tmp_path / "script.sql"
    script.write_text("SELECT count(*) AS drafts\nFROM reports;\nDELETE FROM ledger;\nSELECT 6 * 7;\n")
    with script.open(encoding="utf-8") as source:
        monkeypatch.setattr("sys.stdin", source)
        saved = os.dup(0)
        os.dup2(source.fileno(), 0)
        try:
            ending.run(app, ["db", "shell"])
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    shown = capfd.readouterr()
    assert "drafts" in shown.out
    assert "2" in shown.out.split()
    assert "42" in shown.out.split()
    assert "read-only transaction" in shown.err
