"""The two Query/Retrieve information models (PS3.4 C.6.1 and C.6.2), and the storage classes a C-GET may meet.

Study Root is asked for first. Old archives offer Patient Root alone: there a study is named by its patient, too.
"""

from dataclasses import dataclass

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.failures import service_refused

LEVEL, STUDY, SERIES, INSTANCE, CLASS = 0x00080052, 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
PATIENT = 0x00100020


@dataclass(frozen=True, slots=True)
class InformationModel:
    """The SOP Class UIDs of one model; in ``by_patient`` ones every identifier names a Patient ID."""

    find: str
    move: str
    get: str
    by_patient: bool


_ROOT = "1.2.840.10008.5.1.4.1.2"
STUDY_ROOT = InformationModel(f"{_ROOT}.2.1", f"{_ROOT}.2.2", f"{_ROOT}.2.3", by_patient=False)
PATIENT_ROOT = InformationModel(f"{_ROOT}.1.1", f"{_ROOT}.1.2", f"{_ROOT}.1.3", by_patient=True)
FIND = (STUDY_ROOT.find, PATIENT_ROOT.find)
MOVE = (STUDY_ROOT.move, PATIENT_ROOT.move)
GET = (STUDY_ROOT.get, PATIENT_ROOT.get)
_NEEDS_PATIENT = frozenset({PATIENT_ROOT.find, PATIENT_ROOT.move, PATIENT_ROOT.get})


def chosen(association: Association, service: tuple[str, str]) -> str:
    """Study Root where the archive took it, else Patient Root. Raises StopRun where it took neither."""
    for uid in service:
        if association.offers(uid):
            return uid
    raise service_refused(service[0])


def needs_patient(service: str) -> bool:
    """Whether identifiers of this service name a Patient ID (PS3.4 C.4.1.2.2.1, C.4.2.2.1)."""
    return service in _NEEDS_PATIENT


def _classes(tails: str) -> tuple[str, ...]:
    return tuple(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in tails.split())


COMMON_CLASSES = _classes("1 1.1 1.1.1 7 11.1 88.11 88.59 2")
"""Computed Radiography, Digital X-Ray (both), Secondary Capture, presentation states, text, key objects, CT."""
STORAGE_CLASSES = COMMON_CLASSES + _classes("""
1.2 1.2.1 1.3 1.3.1 2.1 2.2 3 3.1 4 4.1 4.2 4.3 4.4 5 6 6.1 6.2 6.3 7.1 7.2 7.3 7.4 9.1.1 9.1.2 9.1.3 11.2 11.3 11.4
11.5 11.6 11.7 11.8 11.9 11.10 11.11 11.12 12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2
20 30 66 66.1 66.2 66.3 66.4 66.5 66.6 66.7 66.8 67 68.1 77.1 77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1
77.1.5.1 77.1.5.2 77.1.5.3 77.1.5.4 77.1.5.5 77.1.5.6 77.1.5.7 77.1.5.8 77.1.6 77.1.7 77.1.8 77.1.9 77.2 78.2 79.1
80.1 81.1 82.1 88.22 88.33 88.34 88.35 88.40 88.50 88.65 88.67 88.68 88.69 88.71 88.72 88.73 88.76 90.1 91.1 104.1
104.2 104.3 104.4 104.5 128 128.1 130 481.1 481.2 481.3 481.4 481.5 481.8
""")
"""Storage SOP Classes of PS3.4 table B.5-1 that may lie beside films, those of films first; retired ones, too."""
MAY_BE_VIDEO = frozenset(
    _classes("3.1 7.4 12.1 12.2 77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.4 77.1.4.1 77.1.5.1 77.1.7 77.2")
)
"""Classes of several frames in colours or grey, which a video's transfer syntax may hold (PS3.5 8.2.5 to 8.2.8)."""
