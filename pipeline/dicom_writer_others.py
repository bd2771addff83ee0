"""Planes of CT and photographs as DICOM, for samples of archives that hold more than radiographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from pipeline.dicom_writer import RadiographHeader, radiograph_dataset, uid_from

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"
_OF_A_FILM = ("ViewPosition", "PatientOrientation", "Laterality")


def write_ct_plane(
    path: Path, values: NDArray[np.int16], header: RadiographHeader, *, place_mm: float, step_mm: float
) -> None:
    """Write HU ``values`` [rows, columns] from -1024 to 3071 as one axial plane, ``place_mm`` towards the head.

    What ``header`` says of a film alone is left out; its spacing is that of the plane.
    """
    dataset = _dataset(header, CT_IMAGE, "CT")
    rows, columns = values.shape
    down, across = header.spacing_mm
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = UID(uid_from(header.study_instance_uid, "frame of reference"))
    dataset.ImagePositionPatient = [-columns * across / 2, -rows * down / 2, place_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [down, across]
    dataset.SliceThickness = step_mm
    dataset.KVP = "120"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
    if header.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = (f"{value:g}" for value in header.window)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = (values + 1024).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    _write(path, dataset)


def write_photograph(path: Path, colours: NDArray[np.uint8], header: RadiographHeader) -> None:
    """Write sRGB ``colours`` [rows, columns, 3] as a photograph."""
    dataset = _dataset(header, PHOTOGRAPH, "XC")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = colours.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.LossyImageCompression = "00"
    plain = colours.tobytes()
    dataset.PixelData = plain + b"\0" * (len(plain) % 2)
    dataset["PixelData"].VR = "OB"
    _write(path, dataset)


def _dataset(header: RadiographHeader, sop_class: str, modality: str) -> FileDataset:
    dataset = radiograph_dataset(replace(header, modality=modality, view_position="", laterality=""))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    for keyword in _OF_A_FILM:
        if keyword in dataset:
            delattr(dataset, keyword)
    return dataset


def _write(path: Path, dataset: FileDataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
