"""Whole runs while the world misbehaves: what is in the database, the files and the logs afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pydicom
import pytest

from flows.commands.simulate import WrittenStudy, simulate
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.store import Store
from tests.chaos.traffic import ArchiveRest
from tests.conftest import SHARED
from tests.faulty_dicomweb import Faults, faulty_dicomweb
from tests.integration.test_listener import mounted
from tests.servers import Peer, free_port, orthanc, store, store_over_rest
from tests.sites import environment, firstread, rows, running, summary, until, write_site

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"stall_timeout": 1.0, "connect_timeout": 2.0, "patience": 1.0, "attempts": 1}


def films_of(folder: Path, count: int, seed: int = 31) -> tuple[WrittenStudy, ...]:
    return simulate(count, folder, seed=seed, size=192).studies


def whole(database_url: str, studies: int) -> None:
    """Every study has one report of version 1, nothing is claimed, and the audit is whole."""
    reports = rows(database_url, "SELECT study_instance_uid, version FROM firstread.reports")
    assert len({uid for uid, _ in reports}) == len(reports) == studies
    assert {version for _, version in reports} == {1}
    assert rows(database_url, "SELECT count(*) FROM firstread.ledger WHERE lease_owner IS NOT NULL") == [(0,)]
    with Store(database_url) as opened:
        assert opened.audit_verify().ok


def run(config: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    done = firstread("run", "--json", "--verbose", "--config", str(config), cwd=config.parent, **more)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_token_that_ends_in_mid_download_costs_nothing_but_the_time(
    database_url: str, tmp_path: Path
) -> None:
    studies = films_of(tmp_path / "films", 6)
    faults = Faults(token_ends_after=3)
    with faulty_dicomweb([path for one in studies for path in one.paths], faults) as pacs:
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": pacs.url, "concurrency": 1, **QUICK}},
            model={"generate_batch": 1},
        )  # fmt: skip
        stopped = run(config)
        assert stopped.returncode == 3
        assert "token" in stopped.stderr
        left = rows(
            database_url, "SELECT attempts, lease_owner FROM firstread.ledger WHERE state <> 'reported'"
        )
        assert left
        assert sum("?" not in one for one in pacs.requests) > 3, "it ended while films were brought"
        assert set(left) == {(0, None)}, "what the archive refused is charged to no study"
        assert not list((tmp_path / "data" / "work").glob("run-*"))
        faults.token_ends_after = 0
        healed = summary(run(config))
    assert healed["failed"] == 0
    whole(database_url, 6)


def test_an_archive_that_is_away_for_hours_and_comes_back_is_caught_up_by_itself(
    database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    studies = films_of(tmp_path / "films", 3)
    faults = Faults(wado_status=503)
    with faulty_dicomweb([path for one in studies for path in one.paths], faults) as pacs:
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": pacs.url, **QUICK}},
            policy={"max_attempts": 3, "retry_minutes": 0.001},
        )  # fmt: skip
        for _ in range(4):  # more often than a study is tried
            assert run(config).returncode == 1
        assert (
            rows(database_url, "SELECT state::text, next_attempt_at IS NULL, attempts FROM firstread.ledger")
            == [("failed", True, 3)] * 3
        )
        faults.wado_status = 200
        same_hour = run(config)
        assert same_hour.returncode == 1
        assert summary(same_hour)["still_failed"] == 3, "never called unchanged"
        with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as connection:
            connection.execute("UPDATE firstread.ledger SET failed_at = failed_at - interval '20 hours'")
        healed = summary(run(config))
    assert (healed["reported"], healed["still_failed"]) == (3, 0)
    whole(database_url, 3)


@pytest.mark.parametrize("away", ["nobody listens", "stalls"])
def test_an_archive_that_is_away_altogether_stops_the_run_and_charges_nothing(
    away: str, database_url: str, tmp_path: Path
) -> None:
    studies = films_of(tmp_path / "films", 2)
    faults = Faults()
    with faulty_dicomweb([path for one in studies for path in one.paths], faults) as pacs:
        url = pacs.url if away == "stalls" else f"http://127.0.0.1:{free_port()}/dicomweb"
        faults.stalls = True
        archives = {"main": {"kind": "dicomweb", "url": url, **QUICK}}
        once = {"max_attempts": 1}
        for _ in range(2):
            assert run(write_site(tmp_path, database_url, archives, policy=once)).returncode == 3
        assert rows(database_url, "SELECT FROM firstread.ledger") == []
        faults.stalls = False
        archives["main"]["url"] = pacs.url
        assert summary(run(write_site(tmp_path, database_url, archives, policy=once)))["reported"] == 2
    whole(database_url, 2)


def test_a_disk_that_is_really_full_stops_the_run_and_nothing_is_half_written(
    database_url: str, tmp_path: Path
) -> None:
    studies = films_of(tmp_path / "films", 8)
    with (
        orthanc(tmp_path / "orthanc") as peer,
        mounted(tmp_path / "data" / "work", "size=1m,mode=700") as work,
    ):
        store_over_rest(peer, *(path for one in studies for path in one.paths))
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb, "min_free_gib": 0.0}},
        )  # fmt: skip
        (work / "fill").write_bytes(bytes((1 << 20) - (48 << 10)))  # less than one film
        stopped = run(config)
        assert stopped.returncode == 3
        assert [line for line in stopped.stderr.splitlines() if line.startswith("firstread: disk-full")]
        assert rows(database_url, "SELECT max(attempts), count(lease_owner) FROM firstread.ledger") == [
            (0, 0)
        ]
        assert {path.name for path in work.iterdir()} == {"fill"}
        (work / "fill").unlink()
        assert summary(run(config))["reported"] == 8
        assert not list(work.iterdir())
    whole(database_url, 8)


def test_a_process_that_is_stopped_beyond_its_lease_writes_nothing(database_url: str, tmp_path: Path) -> None:
    films_of(tmp_path / "films", 8)
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}},
        policy={"lease_seconds": 2.0},
    )  # fmt: skip
    with held_run("saving", config) as (held, go_on):
        held.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        second = summary(run(config))
        held.send_signal(signal.SIGCONT)
        out, error = go_on()
    assert second["reported"] == 8
    assert held.returncode == 0, error
    assert summary(subprocess.CompletedProcess([], 0, out, error))["reported"] == 0
    assert rows(database_url, "SELECT DISTINCT token FROM firstread.ledger") == [(2,)]
    assert rows(database_url, "SELECT count(*) FROM firstread.report_version") == [(8,)]
    whole(database_url, 8)


def test_a_patient_who_is_corrected_between_retrieval_and_storing_is_told_by_the_next_run(
    database_url: str, tmp_path: Path
) -> None:
    (study,) = films_of(tmp_path / "films", 1)
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    with held_run("saving", config) as (_, go_on):
        film = pydicom.dcmread(study.paths[0])
        film.PatientID, film.PatientName = "CORRECTED-1", "Corrected^Patient"
        film.save_as(study.paths[0])
        go_on()
    patient = "SELECT p.body #>> '{identifier,0,value}' FROM firstread.reports d JOIN firstread.resource p " \
        "ON p.resource_type = 'Patient' AND 'Patient/' || p.resource_id = d.patient"  # fmt: skip
    assert rows(database_url, patient) == [("FICTITIOUS-0001",)]
    assert summary(run(config))["reported"] == 1
    assert rows(database_url, patient) == [("CORRECTED-1",)]
    left = rows(
        database_url,
        "SELECT count(*) FROM firstread.resource o JOIN firstread.resource d ON d.resource_type = 'DiagnosticReport' "
        "WHERE o.resource_type = 'Observation' AND o.status NOT IN ('entered-in-error', 'cancelled') "
        "AND o.patient <> d.patient",
    )
    assert left == [(0,)], "an Observation in force is of the former patient"


@pytest.mark.parametrize("edge", ["writing", "saving"])
def test_an_image_that_is_pushed_while_its_study_is_drafted_is_drafted_next(
    edge: str, database_url: str, tmp_path: Path
) -> None:
    (study,) = films_of(tmp_path / "films", 1)
    late = tmp_path / "late.dcm"
    film = pydicom.dcmread(study.paths[0])
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(
        f"{film.SOPInstanceUID}.2"
    )
    film.InstanceNumber = 2
    film.save_as(late)
    (tmp_path / "archive").mkdir()
    port = free_port()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 0.5, "min_free_gib": 0.0},
    )  # fmt: skip
    command = [
        str(Path(sys.executable).with_name("firstread")),
        "listen",
        "--verbose",
        "--config",
        str(config),
    ]
    log = tmp_path / "listen.log"
    waiting = "SELECT count(*) FROM firstread.instance WHERE handed_over_at IS NULL"
    with running(command, log, cwd=tmp_path, env=environment()):
        until(lambda: "listening as" in log.read_text(), "the listener's start")
        store(Peer("FIRSTREAD", port), study.paths[0])
        until(lambda: bool(rows(database_url, "SELECT FROM firstread.ledger")), "the hand-over")
        with held_run(edge, config) as (_, go_on):
            store(Peer("FIRSTREAD", port), late)
            until(lambda: rows(database_url, waiting) == [(0,)], "the hand-over of the late image", 30)
            go_on()
        told = summary(firstread("run", "--json", "--config", str(config), cwd=tmp_path))
        assert told["reported"] == 1
    held = "SELECT version, held, missing FROM firstread.studies s JOIN firstread.reports USING (study_instance_uid)"
    assert rows(database_url, held) == [(2, 2, [])]
    assert rows(database_url, "SELECT DISTINCT settled_code FROM firstread.instance") == [("reported",)]


@pytest.mark.parametrize("days", [1, -1])
def test_a_machine_whose_clock_is_a_day_off_claims_and_drafts_nothing_twice(
    days: int, database_url: str, tmp_path: Path
) -> None:
    films_of(tmp_path / "films", 12)
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}},
        model={"generate_batch": 2},
    )  # fmt: skip
    command = [str(Path(sys.executable).with_name("firstread")), "run", "--json", "--config", str(config)]
    wrong = [sys.executable, "-m", "tests.shifted_run", str(days * 86_400), str(config)]
    runs = [
        subprocess.Popen(
            one, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for one in (wrong, command)
    ]
    told = []
    for one in runs:
        out, error = one.communicate(timeout=240)
        assert one.returncode == 0, error
        told.append(summary(subprocess.CompletedProcess(command, 0, out, error)))
    assert sum(one["reported"] for one in told) == 12
    whole(database_url, 12)
    assert rows(database_url, "SELECT DISTINCT token FROM firstread.ledger") == [(1,)]
    with psycopg.connect(libpq_url(database_url)) as connection:
        (odd,) = connection.execute(
            "SELECT count(*) FROM firstread.ledger WHERE abs(extract(epoch FROM now() - reported_at)) > 3600"
        ).fetchone() or (None,)
    assert odd == 0, "times of the ledger are the server's"


@contextmanager
def held_run(
    edge: str, config: Path
) -> Iterator[tuple["subprocess.Popen[str]", Callable[[], tuple[str, str]]]]:
    """A run held at ``edge`` (``tests.held_run``); the second part lets it go on and gives what it said."""
    folder = config.parent / "hold"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.held_run", edge, str(folder), str(config)],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def go_on() -> tuple[str, str]:
        (folder / "go-on").touch()
        return process.communicate(timeout=120)

    try:
        until(lambda: (folder / "held").exists() or process.poll() is not None, f"the edge {edge}", 120)
        assert process.poll() is None, process.communicate()
        yield process, go_on
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.communicate()


def test_a_film_that_is_replaced_between_two_sweeps_is_drafted_anew_though_the_count_is_the_same(
    database_url: str, tmp_path: Path
) -> None:
    (study,) = films_of(tmp_path / "films", 1)
    film = pydicom.dcmread(study.paths[0])
    film.StudyDate = f"{datetime.now():%Y%m%d}"  # noqa: DTZ005 - DICOM times are local
    film.save_as(study.paths[0])
    new = tmp_path / "new.dcm"
    former, uid = str(film.SOPInstanceUID), pydicom.uid.UID(f"{film.SOPInstanceUID}.2")
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = uid
    film.save_as(new)
    with orthanc(tmp_path / "orthanc") as peer:
        store_over_rest(peer, study.paths[0])
        config = write_site(tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}})
        assert summary(run(config))["reported"] == 1
        assert summary(run(config))["unchanged"] == 1
        archive = ArchiveRest(peer.rest)
        store_over_rest(peer, new)
        archive.remove(former)
        assert summary(run(config))["reported"] == 1
        assert summary(run(config))["unchanged"] == 1
    ((body,),) = rows(
        database_url, "SELECT body FROM firstread.resource WHERE resource_type = 'ImagingStudy'"
    )
    assert [one["uid"] for one in body["series"][0]["instance"]] == [str(uid)]
