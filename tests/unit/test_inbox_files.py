"""Names in the inbox are forced to the disk for a group together, before its rows are written."""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.committing import Arrival, GroupCommit
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


def test_each_folder_of_a_group_is_forced_once_and_the_inbox_where_one_is_new(
    tmp_path: Path, forced: list[str]
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = InboxFiles(inbox)
    placed = [files.place(came(tmp_path, *one)) for one in (("a", 1), ("a", 2), ("b", 1))]
    assert all(one.path.is_file() for one in placed)
    assert forced == []
    files.force(placed)
    folders = {str(one.path.parent) for one in placed}
    assert forced[0] == str(inbox), (
        "where a name of a folder is new, it is there before what the folder holds"
    )
    assert sorted(forced[1:]) == sorted(folders)
    del forced[:]
    files.force([files.place(came(tmp_path, "a", 3))])
    assert forced == [str(placed[0].path.parent)]


def test_the_first_of_two_files_of_one_uid_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    files = InboxFiles(inbox)
    first = files.place(came(tmp_path, "a", 1))
    assert files.place(came(tmp_path, "a", 1)) == first
    with pytest.raises(OtherBytesError):
        files.place(came(tmp_path, "a", 1, side=9))
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


def test_what_the_disk_refused_is_not_asked_again(tmp_path: Path) -> None:
    """After a failed fsync a second one says yes and has forced nothing."""
    asked: list[str] = []

    def record(arrivals: Sequence[Arrival]) -> None:
        asked.extend(one.instance.path.name for one in arrivals)
        raise OSError(errno.EIO, "I/O error")

    group = [Arrival(came(tmp_path, "a", number), Sender("CT1", LOOPBACK)) for number in range(3)]
    commits = GroupCommit(record, 5.0)
    with ThreadPoolExecutor(len(group)) as pool:
        answers = [pool.submit(commits.commit, one) for one in group]
        while commits._waiting.qsize() < len(group):
            pass
        commits.start()
        failures = [one.exception() for one in answers]
    commits.close(2.0)
    assert [type(one) for one in failures] == [OSError] * len(group)
    assert sorted(asked) == sorted(one.instance.path.name for one in group)
