"""The name of an instance in the inbox is forced to the disk before its row is written."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.inbox_files import InboxFiles, OtherBytesError
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.instance_file import examine
from pipeline.study import HeldInstance
from tests.servers import LOOPBACK, Peer, store
from tests.sites import until
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
    kept = files.place(came(tmp_path, "a", 1)).held
    files.force(kept)
    assert kept.path.is_file()
    assert forced == [str(inbox), str(kept.path.parent)]
    del forced[:]
    files.force(files.place(came(tmp_path, "a", 2)).held)
    assert forced == [str(kept.path.parent)]


def test_the_first_of_two_files_of_one_uid_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = InboxFiles(inbox)
    first, renamed = files.place(came(tmp_path, "a", 1))
    assert renamed
    assert files.place(came(tmp_path, "a", 1)) == (first, False)
    with pytest.raises(OtherBytesError):
        files.place(came(tmp_path, "a", 1, side=9))
    assert examine(first.path) == first


def test_nothing_is_acknowledged_before_bytes_name_and_row_are_durable(
    tmp_path: Path, forced: list[str]
) -> None:
    """The row may be written while the name is forced; Success waits for both, whichever comes last."""
    seen: list[str] = []
    slow = threading.Event()

    def record(arrivals: Sequence[Arrival]) -> None:
        assert forced[0].endswith(".part"), "the bytes before the row"
        folder = str(arrivals[0].instance.path.parent)
        until(lambda: folder in forced, "the name is forced beside the row")
        slow.wait(0.2)
        seen.append(folder)

    film = write_chest(tmp_path / "film.dcm", radiograph_header("order"), pixels=chest_pixels(8, 8))
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", record, 0.1, stall_timeout=5) as scp:
        store(Peer("LISTEN", scp.port), film)
        assert len(seen) == 1, "Success before the row"
