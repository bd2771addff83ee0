"""A Storage SCU of our own association, for what dcmtk would not send; and what a Storage SCP made of it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_STORE_RQ, Command
from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.pdu import (
    Associate,
    PresentationContext,
)
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.dicom_writer import (
    DX_IMAGE_STORAGE,
    EXPLICIT_LITTLE,
)
from pipeline.study import HeldInstance
from tests.servers import LOOPBACK


class Ledger:
    """What ``record`` was told; raises what it is given to raise."""

    def __init__(self) -> None:
        self.rows: list[tuple[HeldInstance, str]] = []
        self.addresses: set[str] = set()
        self.failure: Exception | None = None

    def record(self, arrivals: Sequence[Arrival]) -> None:
        for one in arrivals:
            assert one.instance.path.is_file()
            assert content_digest(one.instance.path) == one.instance.sha256
        if self.failure is not None:
            raise self.failure
        self.rows += [(one.instance, one.sender.calling) for one in arrivals]
        self.addresses |= {one.sender.address for one in arrivals}


def associate(port: int, *contexts: PresentationContext, called: str = "LISTEN") -> Association:
    proposal = Associate(
        called, "TESTSCU", contexts or (PresentationContext(1, DX_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),)
    )
    return Association.request((LOOPBACK, port), proposal, connect_timeout=5, stall_timeout=5)


def dataset_of(film: Path) -> bytes:
    """The bytes after the file meta group."""
    content = film.read_bytes()
    return content[144 + read_file_meta_info(film).FileMetaInformationGroupLength :]


def send(scp: StorageScp, dataset: bytes, sop_instance_uid: str) -> int | None:
    """C-STORE one data set; gives the status."""
    with associate(scp.port) as association:
        context = association.accepted(DX_IMAGE_STORAGE)
        request = Command(C_STORE_RQ, 7, 0, DX_IMAGE_STORAGE, sop_instance_uid, has_data_set=True)
        association.send(context, request, dataset)
        message = association.receive()
        assert message is not None
        assert message.command.responded_to == 7
        return message.command.status


def inbox_files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "inbox").rglob("*") if path.is_file())


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
