"""Small whole slides as DICOM, level by level, drawn so that every pixel tells its place."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from pipeline.dicom_writer import uid_from

SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
MICRONS = 0.5
Encode = Callable[[npt.NDArray[np.uint8]], bytes]


def drawn(side: int, scale: int = 1) -> npt.NDArray[np.uint8]:
    """A slide of ``side`` pixels: white glass, and a disc of tissue in the upper left quarter whose red grows to the
    right and whose blue grows downwards; ``scale`` is the size of a pixel.
    """
    y, x = np.mgrid[0 : side * scale : scale, 0 : side * scale : scale]
    whole = side * scale
    red, blue = 60 + 120 * x / whole, 60 + 120 * y / whole
    tissue = np.hypot(x - whole / 4, y - whole / 4) < whole / 5
    channels = [np.where(tissue, one, 244) for one in (red, np.full(red.shape, 40.0), blue)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def jpeg(tile: npt.NDArray[np.uint8], quality: int = 95) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(tile, level=quality))


def jpeg_2000(tile: npt.NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True, mct=True))


FORMS: dict[str, tuple[str, str, Encode]] = {
    "JPEG": (JPEGBaseline8Bit, "YBR_FULL_422", jpeg),
    "JPEG 2000": (JPEG2000Lossless, "YBR_RCT", jpeg_2000),
    "native": (ExplicitVRLittleEndian, "RGB", lambda tile: tile.tobytes()),
}


def write_level(
    path: Path,
    pixels: npt.NDArray[np.uint8],
    *,
    tile: int = 64,
    microns: float = MICRONS,
    full: bool = True,
    form: str = "JPEG",
    flavour: str = "VOLUME",
    leave_out: Callable[[int, int], bool] = lambda row, column: False,
    turned: bool = False,
    quality: int = 95,
    name: str = "slide",
    **more: Any,
) -> Path:
    """One level of a slide. ``leave_out`` says by row and column which tiles a sparse one lacks, ``turned`` stores the
    tiles of a sparse one last to first, ``quality`` is that of JPEG.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = pixels.shape[:2]
    syntax, photometric, encode = FORMS[form]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(SLIDE)
    uid = UID(uid_from("slide", name, str(path.name), flavour))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        uid_from("slide", name),
        uid_from("slide", name, "1"),
    )
    dataset.FrameOfReferenceUID = uid_from("slide", name, "frame")
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "TEST-SM", "Planted^Slide", "19500304"
    dataset.PatientSex, dataset.StudyDate, dataset.StudyTime = "O", "20310506", "070809"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "TEST-SM-1", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "SM", 1, 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
    dataset.SpecimenLabelInImage, dataset.BurnedInAnnotation = "NO", "NO"
    places = [(row, column) for row in range(0, rows, tile) for column in range(0, columns, tile)]
    if not full:
        places = [(row, column) for row, column in places if not leave_out(row, column)]
        places = places[::-1] if turned else places
    dataset.Rows = dataset.Columns = tile
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = rows, columns
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.ImagedVolumeHeight, dataset.ImagedVolumeWidth = rows * microns / 1000, columns * microns / 1000
    dataset.NumberOfFrames = len(places)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = (
        3,
        0,
        photometric,
    )
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.DimensionOrganizationType = "TILED_FULL" if full else "TILED_SPARSE"
    _place(dataset, places, microns, full=full)
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    padded = np.full((rows + tile, columns + tile, 3), 255, np.uint8)
    padded[:rows, :columns] = pixels
    encode = partial(jpeg, quality=quality) if form == "JPEG" else encode
    tiles = [encode(np.ascontiguousarray(padded[r : r + tile, c : c + tile])) for r, c in places]
    native = syntax == ExplicitVRLittleEndian
    dataset.PixelData = b"".join(tiles) if native else encapsulate(tiles)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _place(dataset: Dataset, places: list[tuple[int, int]], microns: float, *, full: bool) -> None:
    measures, shared, path = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [microns / 1000] * 2, 0.001
    path.OpticalPathIdentifier = "1"
    shared.PixelMeasuresSequence, shared.OpticalPathIdentificationSequence = [measures], [path]
    dataset.SharedFunctionalGroupsSequence = [shared]
    optical, illumination = Dataset(), Dataset()
    illumination.CodeValue, illumination.CodingSchemeDesignator = "111744", "DCM"
    illumination.CodeMeaning = "Brightfield illumination"
    optical.OpticalPathIdentifier, optical.IlluminationTypeCodeSequence = "1", [illumination]
    dataset.OpticalPathSequence = [optical]
    if full:
        return
    groups = []
    for row, column in places:
        place, group = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix = row + 1
        place.ColumnPositionInTotalImagePixelMatrix = column + 1
        place.XOffsetInSlideCoordinateSystem = place.YOffsetInSlideCoordinateSystem = 0
        place.ZOffsetInSlideCoordinateSystem = 0
        group.PlanePositionSlideSequence = [place]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
