"""An archive that offers Patient Root alone, as old ones do: C-FIND and C-GET by pynetdicom, on loopback."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom import sop_class as sop

from tests.servers import LOOPBACK, Peer, free_port

_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_ABOVE = {"PATIENT": (), "STUDY": ("PatientID",), "SERIES": ("PatientID", "StudyInstanceUID"),
          "IMAGE": ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")}  # fmt: skip


@contextmanager
def patient_root(files: Sequence[Path], *, strict: bool) -> Iterator[Peer]:
    """Serve ``files``; a ``strict`` one refuses what names no Patient ID (PS3.4 C.4.1.2.2.1), as 0xA900."""
    held = [pydicom.dcmread(path) for path in files]

    def matching(asked: Dataset, keys: Sequence[str]) -> Iterator[Dataset]:
        for one in held:
            wanted = {key: str(asked.get(key) or "") for key in keys}
            if all(not value or str(one.get(key, "")) in value.split("\\") for key, value in wanted.items()):
                yield one

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = str(asked.QueryRetrieveLevel)
        if strict and not all(asked.get(key) for key in _ABOVE[level]):
            yield 0xA900, None
            return
        rows = {}
        for one in matching(asked, (*_ABOVE[level], _KEYS[level])):
            row = Dataset()
            row.QueryRetrieveLevel = level
            for element in asked:
                if element.keyword in one:
                    row[element.keyword] = one[element.keyword]
            for key in (*_ABOVE[level], _KEYS[level]):
                row[key] = one[key]
            rows[str(one[_KEYS[level]].value)] = row
        for row in rows.values():
            yield 0xFF00, row

    def get(event: Any) -> Iterator[Any]:
        asked = event.identifier
        if strict and not asked.get("PatientID"):
            yield 0
            yield 0xA900, None
            return
        uids = asked.get("SOPInstanceUID") or ""
        some = [uids] if isinstance(uids, str) else list(uids)
        sent = [
            one for one in matching(asked, ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
            if not any(some) or one.SOPInstanceUID in some
        ]  # fmt: skip
        yield len(sent)
        for one in sent:
            yield 0xFF00, one

    server = AE(ae_title="OLDPACS")
    server.add_supported_context(sop.Verification)  # type: ignore[attr-defined]
    for service in ("Find", "Get"):
        server.add_supported_context(getattr(sop, f"PatientRootQueryRetrieveInformationModel{service}"))
    for sop_class in {one.SOPClassUID for one in held}:
        server.add_supported_context(sop_class, scu_role=True, scp_role=True)
    port = free_port()
    running = server.start_server(
        (LOOPBACK, port), block=False, evt_handlers=[(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get)]
    )
    try:
        yield Peer("OLDPACS", port)
    finally:
        assert running is not None
        running.shutdown()
