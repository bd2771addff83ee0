"""Studies without a date, digests of an earlier version, and what the listener refused."""

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pydicom

from flows import sweep as runs
from flows.commands.simulate import simulate
from flows.environment.senders import Refusals
from flows.received import remove_leftovers
from pipeline.archive.content_digest import content_digest
from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.instance_file import examine
from pipeline.store.connections import libpq_url
from pipeline.store.migrations import head
from pipeline.store.store import Store
from pipeline.study import HeldInstance
from tests.servers import LOOPBACK, orthanc, program, store_over_rest
from tests.sites import firstread, rows, write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest


def test_a_sweep_by_days_finds_undated_studies_now_and_then(database_url: str, tmp_path: Path) -> None:
    """No range of dates finds them in Orthanc; a study of long ago is not drafted because of that search."""
    undated, long_ago = (
        simulate(1, tmp_path / f"in-{seed}", seed=seed).studies[0].paths[0] for seed in (1, 2)
    )
    for path, day in ((undated, ""), (long_ago, "19990101")):
        dataset = pydicom.dcmread(path)
        dataset.StudyDate = day
        dataset.save_as(path)
    with orthanc(tmp_path / "peer") as peer:
        store_over_rest(peer, undated, long_ago)
        archive = {"kind": "dicomweb", "url": peer.dicomweb}
        config = write_site(tmp_path, database_url, {"main": archive})
        first = asyncio.run(runs.sweep(config=str(config), days=1))
        assert (first.discovered, first.reported) == (1, 1)
        assert asyncio.run(runs.sweep(config=str(config), days=1)).discovered == 0, "not every night"
        never = write_site(tmp_path, database_url, {"main": {**archive, "undated_days": 0}})
        assert asyncio.run(runs.sweep(config=str(never), days=1)).discovered == 0
    assert rows(database_url, "SELECT undated FROM firstread.sweep ORDER BY sweep_id") == [
        (True,),
        (False,),
        (False,),
    ]
    with Store(database_url, revision=head()) as store:
        assert store.sweeps.undated_since("main", datetime.now(UTC) - timedelta(days=1))
        assert not store.sweeps.undated_since("other", datetime.now(UTC) - timedelta(days=1))


def test_digests_of_an_earlier_version_are_taken_again(database_url: str, tmp_path: Path) -> None:
    """Else a film in the inbox would be another one than the archive's own after an upgrade."""
    path = write_chest(tmp_path / "inbox" / "1.dcm", radiograph_header("old"), pixels=chest_pixels(96, 96))
    held = examine(path)
    assert isinstance(held, HeldInstance)
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path)}})
    with runs.open_workplace(str(config), "", "") as workplace:
        workplace.store.inbox.record("main", [held], ["CT1@127.0.0.1"])
        with psycopg.connect(libpq_url(database_url)) as connection:
            connection.execute("UPDATE firstread.instance SET sha256 = repeat('0', 64), by_content = false")
        remove_leftovers(workplace)
    assert rows(database_url, "SELECT sha256, by_content FROM firstread.instance") == [
        (content_digest(path), True)
    ]


def test_refused_instances_are_counted_by_reason_in_status(database_url: str, tmp_path: Path) -> None:
    """dcmsend and `storescu --no-halt` end with 0 whatever they are answered: nobody else would notice."""
    good = write_chest(tmp_path / "1.dcm", radiograph_header("sent"), pixels=chest_pixels(96, 96))
    large = write_chest(
        tmp_path / "2.dcm", radiograph_header("sent", instance=2), pixels=chest_pixels(400, 400)
    )
    other = tmp_path / "3.dcm"
    changed = pydicom.dcmread(good)
    changed.PatientName = "Fictitious^Other"
    changed.save_as(other)
    refusals = Refusals()
    with StorageScp(
        LOOPBACK, 0, "LISTEN", tmp_path / "inbox", lambda _: None, 0.1,
        max_instance_gib=100_000 / (1 << 30), refused=refusals.add,
    ) as scp:  # fmt: skip
        command = [program("storescu"), "-aet", "CT1", "-aec", "LISTEN", "--no-halt", LOOPBACK, str(scp.port)]
        done = subprocess.run([*command, good, large, other, other], check=False, capture_output=True)
    assert done.returncode == 0
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path)}})
    with Store(database_url, revision=head()) as store:
        refusals.flush("site", store.append_audit, lambda some: store.sweeps.note_refused("main", some))
        refusals.add(Sender("CT1", LOOPBACK), "too-large")
        refusals.flush("site", store.append_audit, lambda some: store.sweeps.note_refused("main", some))
    told = firstread("status", "--json", "--config", str(config), cwd=tmp_path)
    counted = {(one["sender"], one["reason"]): one["count"] for one in json.loads(told.stdout)["refused"]}
    assert counted == {(f"CT1@{LOOPBACK}", "too-large"): 2, (f"CT1@{LOOPBACK}", "other-bytes"): 2}
    shown = firstread("status", "--config", str(config), cwd=tmp_path).stdout
    assert "other-bytes" in shown
    assert f"CT1@{LOOPBACK}" in shown
