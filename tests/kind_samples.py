"""Small objects of kinds that are no films of the chest, as single pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import UID

from pipeline.dicom_writer import EXPLICIT_LITTLE, radiograph_dataset
from tests.synthetic import radiograph_header

_OF_THE_CHEST = (
    "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence", "ProtocolName",
    "StudyDescription", "SeriesDescription", "ImageLaterality",
)  # fmt: skip


def write_picture(
    path: Path,
    suffix: str,
    modality: str,
    pixels: np.ndarray[Any, Any],
    name: str,
    *,
    frames: np.ndarray[Any, Any] | None = None,
    instance: int = 1,
    **more: object,
) -> Path:
    """A picture of the class that ends on ``suffix``, in colours where ``pixels`` has three channels.

    ``frames`` are several in place of it, [frames, rows, columns].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = replace(radiograph_header(name, instance=instance), modality=modality)
    dataset = radiograph_dataset(header, EXPLICIT_LITTLE)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"1.2.840.10008.5.1.4.1.1.{suffix}")
    for keyword in _OF_THE_CHEST:
        if keyword in dataset:
            del dataset[keyword]
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = (pixels if frames is None else frames).tobytes()
    if frames is not None:
        dataset.NumberOfFrames = len(frames)
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path
