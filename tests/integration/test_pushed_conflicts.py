"""A pushed object and the archive's own under one UID: the archive's is drafted, and the report says that two came."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy, bring, fetch
from flows.received import pushed_events
from pipeline.archive.content_digest import content_digest
from pipeline.archive.instance_file import examine
from pipeline.ledger import Claim, SettledOutcome, WorkFilter
from pipeline.settings import load
from pipeline.store.values import QuietStudy
from pipeline.study import FoundStudy, HeldInstance
from tests.sites import write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest

SENDER = "EVIL@10.0.0.9"
HEADER = radiograph_header("conflict")
STUDY = HEADER.study_instance_uid


@pytest.fixture
def workplace(database_url: str, tmp_path: Path) -> Iterator[Workplace]:
    folder = tmp_path / "archive"
    folder.mkdir()
    write_chest(folder / "1.dcm", HEADER, pixels=chest_pixels(512, 480))
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(folder)}})
    with Workplace(load(config)) as opened:
        yield opened


def pushed(
    workplace: Workplace, tmp_path: Path, *, rows: int = 512, instance: int = 1, behind: bytes = b""
) -> HeldInstance:
    """An instance that SENDER pushed, with its row; other rows make other bytes, ``behind`` are such behind its end."""
    header = radiograph_header("conflict", instance=instance)
    path = tmp_path / f"pushed-{rows}-{instance}.dcm"
    write_chest(path, header, pixels=chest_pixels(rows, 480, seed=instance - 1))
    path.write_bytes(path.read_bytes() + behind)
    held = examine(path)
    assert isinstance(held, HeldInstance)
    workplace.store.inbox.record("main", [held], [SENDER])
    return held


@pytest.mark.parametrize("known", [True, False])
def test_what_was_read_leniently_when_it_was_pushed_is_a_remark(
    workplace: Workplace, tmp_path: Path, *, known: bool
) -> None:
    """Also where the file of the inbox is all there is: it was written anew when it came."""
    if not known:
        (tmp_path / "archive" / "1.dcm").unlink()
    held = pushed(workplace, tmp_path, instance=2, behind=b"\r\n")
    assert held.lenience == ("bytes-after",)
    brought = bring(workplace, claimed(workplace), pushed=True)
    assert isinstance(brought, RetrievedStudy)
    assert "file-form" in {one.code for one in brought.image_set.remarks}


def claimed(workplace: Workplace) -> Claim:
    workplace.store.record_found("main", "recipe", [FoundStudy(STUDY, None, (), "", None, "")])
    (claim,) = workplace.store.claim(
        "recipe", WorkFilter("main"), owner=workplace.owner, limit=1, lease_seconds=60
    )
    return claim


def test_the_archives_own_is_drafted_and_the_difference_is_on_the_report(
    workplace: Workplace, tmp_path: Path
) -> None:
    forged = pushed(workplace, tmp_path, rows=448)
    brought = bring(workplace, claimed(workplace), pushed=True)
    assert isinstance(brought, RetrievedStudy)
    (image,) = brought.image_set.images
    assert image.original_rows == 512
    (damage,) = brought.completeness.damaged
    assert (damage.sop_instance_uid, damage.code) == (HEADER.sop_instance_uid, "duplicate-conflict")
    assert forged.sha256 in {one.sha256 for one in brought.received}


def test_the_same_bytes_are_no_conflict(workplace: Workplace, tmp_path: Path) -> None:
    pushed(workplace, tmp_path)
    brought = bring(workplace, claimed(workplace), pushed=True)
    assert isinstance(brought, RetrievedStudy)
    assert not brought.completeness.damaged


def test_what_the_archive_lacks_is_taken_from_the_inbox(workplace: Workplace, tmp_path: Path) -> None:
    more = pushed(workplace, tmp_path, instance=2)
    fetched, known, differing = fetch(workplace, claimed(workplace), pushed=True)
    assert known
    assert not differing
    assert {one.ref.sop_instance_uid for one in fetched.held} == {
        HEADER.sop_instance_uid,
        more.ref.sop_instance_uid,
    }
    assert all(content_digest(one.path) == one.sha256 for one in fetched.held)


def test_a_conflict_that_comes_after_the_report_is_told_once(workplace: Workplace, tmp_path: Path) -> None:
    claim = claimed(workplace)
    first = bring(workplace, claim)
    assert isinstance(first, RetrievedStudy)
    reported = replace(
        claim,
        reported_manifest=first.completeness.manifest_digest,
        reported_films=first.completeness.films_digest,
    )
    assert isinstance(bring(workplace, reported), SettledOutcome)
    pushed(workplace, tmp_path, rows=448)
    again = bring(workplace, reported, pushed=True)
    assert isinstance(again, RetrievedStudy)
    assert [one.code for one in again.completeness.damaged] == ["duplicate-conflict"]


def test_the_audit_names_who_sent_what(workplace: Workplace, tmp_path: Path) -> None:
    held = pushed(workplace, tmp_path)
    workplace.store.inbox.record("main", [held], [SENDER])
    (quiet,) = workplace.store.inbox.quiet_studies(0.0, "main")
    assert isinstance(quiet, QuietStudy)
    (event,) = pushed_events(workplace, "main", STUDY, datetime.now(UTC))
    sender = event["agent"][0]
    assert event["type"]["code"] == "110104"
    assert sender["who"]["display"] == "EVIL"
    assert sender["network"]["address"] == "10.0.0.9"
    (detail,) = [one for one in event["entity"][0]["detail"] if one["type"] == HEADER.sop_instance_uid]
    assert held.sha256 in detail["valueString"]
    workplace.store.append_audit([event])
    assert workplace.store.audit_verify().ok
