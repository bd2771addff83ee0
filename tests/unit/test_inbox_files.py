"""The name of an instance in the inbox is forced to the disk before its row is written."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.inbox_files import InboxFiles, OtherBytesError
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.spool import examine
from pipeline.study import HeldInstance
from tests.servers import LOOPBACK, Peer, store
from tests.synthetic import chest_pixels, radiograph_header, write_chest


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is forced to the disk from now on, by name."""
    names: list[str] = []
    really = os.fsync

    def told(descriptor: int) -> None:
        names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    return names


def came(folder: Path, study: str, instance: int, side: int = 8) -> HeldInstance:
    path = write_chest(
        folder / f"{study}-{instance}.part",
        radiograph_header(study, instance=instance),
        pixels=chest_pixels(side, side),
    )
    found = examine(path)
    assert isinstance(found, HeldInstance)
    return found


def test_a_name_is_forced_to_the_disk_and_that_of_a_new_folder_before_it(
    tmp_path: Path, forced: list[str]
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = InboxFiles(inbox)
    kept = files.keep(came(tmp_path, "a", 1))
    assert kept.path.is_file()
    assert forced == [str(inbox), str(kept.path.parent)]
    del forced[:]
    files.keep(came(tmp_path, "a", 2))
    assert forced == [str(kept.path.parent)]


def test_the_first_of_two_files_of_one_uid_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = InboxFiles(inbox)
    first = files.keep(came(tmp_path, "a", 1))
    assert files.keep(came(tmp_path, "a", 1)) == first
    with pytest.raises(OtherBytesError):
        files.keep(came(tmp_path, "a", 1, side=9))
    assert examine(first.path) == first


def test_nothing_is_recorded_before_its_name_is_on_the_disk(tmp_path: Path, forced: list[str]) -> None:
    seen: list[bool] = []

    def record(arrivals: Sequence[Arrival]) -> None:
        seen.extend(forced.index(str(one.instance.path.parent)) > 0 for one in arrivals)
        del forced[:]

    film = write_chest(tmp_path / "film.dcm", radiograph_header("order"), pixels=chest_pixels(8, 8))
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", record, 0.1, stall_timeout=5) as scp:
        store(Peer("LISTEN", scp.port), film)
    assert seen == [True], "the bytes, then the name, then the row"
