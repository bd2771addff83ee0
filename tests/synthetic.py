"""Valid DICOM studies with fixed UIDs, for every room's tests. All patients are invented.

``chest_pixels`` is a drawing with the grey levels of a chest film, not an anatomy: use ``models.simulation``
where the model must see something.
"""

import hashlib
import warnings
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from pipeline.dicom_writer import (
    EXPLICIT_LITTLE,
    RadiographHeader,
    fictitious_moment,
    uid_from,
    write_radiograph,
)
from pipeline.study import AnnouncedInstance, FetchedStudy, HeldInstance, InstanceRef


def chest_pixels(
    rows: int = 320, columns: int = 288, *, bits: int = 12, seed: int = 0
) -> npt.NDArray[np.uint16]:
    """uint16 [rows, columns] of ``bits`` bits: dense bright body, two dark lungs, a little noise."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    u, v = x / columns - 0.5, y / rows - 0.5
    body = np.clip(1.1 - 1.6 * (u**2 + 0.4 * v**2), 0, 1) * 0.75
    lungs = sum(np.exp(-(((u - side) / 0.13) ** 4) - (((v + 0.02) / 0.33) ** 4)) for side in (-0.22, 0.22))
    noise = np.random.default_rng(seed).normal(0, 0.01, (rows, columns))
    film = np.clip(0.08 + body - 0.45 * lungs + noise, 0, 1)
    levels: npt.NDArray[np.uint16] = np.rint(film * ((1 << bits) - 1)).astype(np.uint16)
    return levels


def radiograph_header(
    study: str = "a", *, instance: int = 1, series: int = 1, **changes: object
) -> RadiographHeader:
    """The header of one instance of the invented study called ``study``; ``changes`` replace its fields."""
    fields: dict[str, object] = {
        "study_instance_uid": uid_from("tests", study),
        "series_instance_uid": uid_from("tests", study, str(series)),
        "sop_instance_uid": uid_from("tests", study, str(series), str(instance)),
        "patient_id": f"TEST-{study}",
        "patient_name": "Fictitious^Test",
        "birth_date": date(1971, 3, 14),
        "sex": "O",
        "accession_number": f"ACC-{study}"[:16],
        "started": fictitious_moment(1),
        "series_number": series,
        "instance_number": instance,
        "window": (2048, 4096),
    }
    return RadiographHeader(**{**fields, **changes})  # type: ignore[arg-type]


def write_chest(
    path: Path,
    header: RadiographHeader | None = None,
    *,
    pixels: npt.NDArray[np.uint16] | npt.NDArray[np.uint8] | None = None,
    transfer_syntax: str = EXPLICIT_LITTLE,
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = 12,
) -> Path:
    """Write one chest film and give its path back."""
    write_radiograph(
        path,
        chest_pixels() if pixels is None else pixels,
        header or radiograph_header(),
        transfer_syntax=transfer_syntax,
        photometric=photometric,
        bits_stored=bits_stored,
    )
    return path


def held(path: Path) -> HeldInstance:
    """The file at ``path`` much as an archive adapter describes it; unreadable headers give empty UIDs.

    ``sha256`` is over the whole file here.
    """
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = pydicom.dcmread(path, stop_before_pixels=True)
        ref = InstanceRef(str(head.StudyInstanceUID), str(head.SeriesInstanceUID), str(head.SOPInstanceUID))
        classes = str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)
    except (pydicom.errors.InvalidDicomError, AttributeError, EOFError, OSError, ValueError, KeyError):
        ref, classes = InstanceRef("", "", ""), ("", "")
    return HeldInstance(ref, path, hashlib.sha256(content).hexdigest(), len(content), *classes)


def fetched(folder: Path, paths: Iterable[Path], study: str = "a") -> FetchedStudy:
    """A complete study made of ``paths``, as ``Archive.fetch`` gives it."""
    instances = tuple(held(path) for path in paths)
    announced = tuple(AnnouncedInstance(instance.ref, instance.sop_class_uid) for instance in instances)
    return FetchedStudy(uid_from("tests", study), announced, instances, (), folder)
