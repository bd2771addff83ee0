"""CT, MR and PET series whose voxels tell their own place: the value is a function of the position in the patient.

Positions are those of PS3.3 C.7.6.2.1.1: first pixel + column x Pixel Spacing[1] along the row + row x Pixel Spacing[0]
down the column. A reader is right when its value at (x, y, z) is ``value_at(x, y, z)``, whatever order it reads in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline.dicom_writer import uid_from

ROOT = "1.2.840.10008.5.1.4.1.1."
CLASSES = {"CT": f"{ROOT}2", "MR": f"{ROOT}4", "PT": f"{ROOT}128"}
Vector = tuple[float, float, float]


def value_at(x: Any, y: Any, z: Any) -> Any:
    """What is stored, after the rescale, at a place in mm (LPS): whole numbers from about -100 to 600."""
    return np.rint(2 * np.asarray(z) + np.asarray(x) + 3 * np.asarray(y) + 250)


@dataclass(frozen=True)
class Slice:
    """One plane as it will be written; ``extra`` are further attributes by keyword."""

    position: Vector
    cosines: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    rows: int = 48
    columns: int = 40
    spacing: tuple[float, float] = (0.8, 0.7)
    slope: float = 1
    intercept: float = -1024
    shift: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def with_extra(self, **extra: Any) -> "Slice":
        return replace(self, extra={**self.extra, **extra})

    def places(self) -> npt.NDArray[np.float64]:
        """Where each pixel lies, in the patient's coordinates: [3, rows, columns], mm (PS3.3 C.7.6.2.1.1)."""
        row, column = np.array(self.cosines[:3]), np.array(self.cosines[3:])
        down, across = np.mgrid[: self.rows, : self.columns]
        return np.asarray(
            np.array(self.position)[:, None, None]
            + row[:, None, None] * across * self.spacing[1]
            + column[:, None, None] * down * self.spacing[0]
        )

    def pixels(self) -> npt.NDArray[np.float64]:
        return np.asarray(value_at(*self.places()), np.float64) + self.shift


def stack(
    count: int = 10, step: Vector = (0, 0, 2.0), origin: Vector = (-20, -30, -50), **same: Any
) -> list[Slice]:
    """``count`` planes, ``step`` apart."""
    return [
        Slice((origin[0] + k * step[0], origin[1] + k * step[1], origin[2] + k * step[2]), **same).with_extra(
            InstanceNumber=k + 1
        )
        for k in range(count)
    ]


def write_series(
    folder: Path,
    slices: list[Slice],
    *,
    modality: str = "CT",
    study: str = "ct",
    series: str = "1",
    name: Callable[[int], str] = "i{:04}".format,
    patient: str = "TEST-CT",
) -> list[Path]:
    """A file for each slice, in the order given. The rest of the header is the least that archives take."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, one in enumerate(slices):
        path = folder / f"{name(index)}.dcm"
        _dataset(one, modality, study, series, index, patient).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _dataset(one: Slice, modality: str, study: str, series: str, index: int, patient: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(CLASSES[modality])
    uid = UID(uid_from("ct-series", study, series, str(index)))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID = uid_from("ct-series", study)
    dataset.SeriesInstanceUID = uid_from("ct-series", study, series)
    dataset.FrameOfReferenceUID = uid_from("ct-series", study, "frame")
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = (
        patient,
        "Planted^Sectional",
        "19500304",
    )
    dataset.PatientSex, dataset.StudyDate, dataset.StudyTime = "O", "20310506", "070809"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "TEST-CT-1", ""
    dataset.Modality, dataset.SeriesNumber = modality, 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [round(part, 5) for part in one.position]
    dataset.ImageOrientationPatient = [round(part, 6) for part in one.cosines]
    dataset.PixelSpacing = list(one.spacing)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = one.rows, one.columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    slope, intercept = (1.0, 0.0) if modality == "MR" else (one.slope, one.intercept)
    if modality != "MR":
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    for keyword, value in one.extra.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = np.rint((one.pixels() - intercept) / slope).astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def enhanced(paths: Sequence[Path], path: Path, suffix: str = "2.1") -> Path:
    """The classic planes as one enhanced object of the class that ends on ``suffix``: CT, or MR with "4.1" (PS3.3 A.36,
    A.38). Its frames are in the order given.
    """
    headers = [dcmread(one) for one in paths]
    whole = dcmread(paths[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}{suffix}")
    whole.NumberOfFrames = len(headers)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber"):
        del whole[keyword]
    frames = []
    for one in headers:
        group, at, along, measures = Dataset(), Dataset(), Dataset(), Dataset()
        at.ImagePositionPatient = one.ImagePositionPatient
        along.ImageOrientationPatient, measures.PixelSpacing = one.ImageOrientationPatient, one.PixelSpacing
        group.PlanePositionSequence, group.PlaneOrientationSequence = Items([at]), Items([along])
        group.PixelMeasuresSequence = Items([measures])
        frames.append(group)
    whole.PerFrameFunctionalGroupsSequence = Items(frames)
    whole.PixelData = b"".join(one.PixelData for one in headers)
    whole.save_as(path, enforce_file_format=True)
    return path
