"""Whose study it is, and whether it is there: what an archive corrects or takes back leaves no draft in force."""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pydicom
import pytest

from flows import sweep as runs
from flows import vanished
from flows.commands.simulate import simulate
from flows.tally import Tally
from pipeline.store.connections import libpq_url
from pipeline.store.migrations import head
from pipeline.store.store import Store
from tests.servers import CALLING, LOOPBACK, Peer, free_port, orthanc, store_over_rest
from tests.sites import firstread, write_site

WAYS = ("dicomweb", "move", "get")


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Two simulated studies of one film each."""
    return [simulate(1, tmp_path / f"in-{seed}", seed=seed).studies[0].paths[0] for seed in (1, 2)]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Callable[[str], tuple[Peer, dict[str, Any]]]]:
    port = free_port()
    with orthanc(tmp_path / "peer", move_port=port) as peer:

        def settings(way: str) -> tuple[Peer, dict[str, Any]]:
            if way == "dicomweb":
                return peer, {"kind": "dicomweb", "url": peer.dicomweb}
            dimse = {"kind": "dimse", "host": LOOPBACK, "port": peer.port, "ae_title": peer.ae_title}
            return peer, {**dimse, "calling_ae_title": CALLING, "retrieve": way, "move_port": port}

        yield settings


def swept(config: Path, **asked: Any) -> Tally:
    return asyncio.run(runs.sweep(config=str(config), **asked))


def corrected(film: Path, number: str) -> Path:
    """The same instance with another Patient ID, as an archive is sent it after a correction."""
    dataset = pydicom.dcmread(film)
    dataset.PatientID, dataset.PatientName = number, "Fictitious^Corrected"
    target = film.with_name("corrected.dcm")
    dataset.save_as(target)
    return target


def reports(database_url: str) -> dict[str, str]:
    """Status of each DiagnosticReport, by Study Instance UID."""
    with psycopg.connect(libpq_url(database_url)) as connection:
        return dict(
            connection.execute(
                "SELECT study_instance_uid, status FROM firstread.resource WHERE resource_type = 'DiagnosticReport'"
            ).fetchall()
        )


def in_force(database_url: str) -> int:
    with psycopg.connect(libpq_url(database_url)) as connection:
        row = connection.execute("SELECT count(*) FROM firstread.reports").fetchone()
    assert row is not None
    return int(row[0])


def told(config: Path) -> Any:
    done = firstread("status", "--json", "--config", str(config), cwd=config.parent)
    return json.loads(done.stdout)


def forget(peer: Peer, which: Callable[[dict[str, Any]], bool]) -> None:
    """Delete the studies that ``which`` names from Orthanc."""
    with urllib.request.urlopen(f"{peer.rest}/studies?expand", timeout=30) as response:
        some = [
            one
            for one in json.load(response)
            if which({**one["PatientMainDicomTags"], **one["MainDicomTags"]})
        ]
    assert some
    for one in some:
        request = urllib.request.Request(f"{peer.rest}/studies/{one['ID']}", method="DELETE")
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()


@pytest.mark.parametrize("way", WAYS)
def test_a_corrected_patient_id_holds_the_study_and_withdraws_its_draft(
    database_url: str, tmp_path: Path, films: list[Path], pacs: Callable[[str], Any], way: str
) -> None:
    """Orthanc keeps both instances: it lists the study twice, answers 404 over WADO-RS and sends both over DIMSE."""
    peer, archive = pacs(way)
    store_over_rest(peer, *films)
    config = write_site(tmp_path, database_url, {"main": archive})
    assert swept(config).reported == 2
    uid = str(pydicom.dcmread(films[0]).StudyInstanceUID)
    assert reports(database_url)[uid] == "partial"

    store_over_rest(peer, corrected(films[0], "CORRECTED-1"))
    tally = swept(config)
    assert (tally.failed, tally.reported, tally.exit_code) == (1, 0, 1)
    assert reports(database_url)[uid] == "entered-in-error"
    assert in_force(database_url) == 1, "the other study's draft stands"
    (row,) = told(config)["rows"]
    assert (row["state"], row["code"]) == ("failed", "two-patients")
    with Store(database_url, revision=head()) as store:
        assert store.audit_verify().ok
    with psycopg.connect(libpq_url(database_url)) as connection:
        said = connection.execute(
            "SELECT count(*) FROM firstread.audit_event WHERE event::text LIKE '%two-patients%'"
        ).fetchone()
    assert said is not None
    assert said[0] >= 1
    assert swept(config).exit_code == 1, "it is held until the archive is put right"

    forget(
        peer,
        lambda tags: tags["StudyInstanceUID"] == uid and tags["PatientID"] != "CORRECTED-1",
    )
    assert swept(config).reported == 1
    assert reports(database_url)[uid] == "partial"
    assert in_force(database_url) == 2


@pytest.mark.parametrize("way", ["dicomweb", "move"])
def test_a_study_that_its_archive_took_back_leaves_no_draft_in_force(
    database_url: str, tmp_path: Path, films: list[Path], pacs: Callable[[str], Any], way: str
) -> None:
    peer, archive = pacs(way)
    store_over_rest(peer, *films)
    config = write_site(tmp_path, database_url, {"main": archive})
    assert swept(config).reported == 2
    uid = str(pydicom.dcmread(films[0]).StudyInstanceUID)
    forget(peer, lambda tags: tags["StudyInstanceUID"] == uid)
    assert swept(config).skipped == 1
    assert reports(database_url)[uid] == "entered-in-error"
    assert in_force(database_url) == 1
    reasons = {one["code"]: one["studies"] for one in told(config)["reasons"]}
    assert reasons == {"study-gone": 1}

    store_over_rest(peer, films[0])
    assert swept(config).exit_code == 0
    assert reports(database_url)[uid] == "partial", "it is there again, and its draft stands again"
    assert in_force(database_url) == 2


def test_an_archive_that_lost_most_is_not_believed(
    database_url: str, tmp_path: Path, films: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty disk, a reinstalled archive: no draft is withdrawn for it, and it is said."""
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}}
    )
    (tmp_path / "archive").mkdir()
    for number, film in enumerate(films):
        (tmp_path / "archive" / f"{number}.dcm").write_bytes(film.read_bytes())
    assert swept(config).reported == 2
    for film in (tmp_path / "archive").iterdir():
        film.unlink()
    monkeypatch.setattr(vanished, "FEW", 1)
    tally = swept(config)
    assert (tally.passed_over, tally.exit_code) == (2, 1)
    assert in_force(database_url) == 2
    assert told(config)["passed_over"] == [{"archive": "main", "reason": "reported-not-listed", "count": 2}]


def test_what_a_sweep_passed_over_stands_in_status(
    database_url: str, tmp_path: Path, films: list[Path]
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "film.dcm").write_bytes(films[0].read_bytes())
    (folder / "empty.dcm").touch()
    (folder / "letter.txt").write_text("Dear colleague")
    headless = pydicom.dcmread(films[1])
    del headless.StudyInstanceUID
    headless.save_as(folder / "headless.dcm")
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(folder)}})
    assert swept(config).passed_over == 2
    counts = {one["reason"]: one["count"] for one in told(config)["passed_over"]}
    assert counts == {"empty-file": 1, "missing-uid": 1}
    (folder / "empty.dcm").unlink()
    (folder / "headless.dcm").unlink()
    assert swept(config).exit_code == 0
    assert told(config)["passed_over"] == []
