"""Writes CR and DX images that other systems accept: for the simulator, the sample archive and tests.

The object follows PS3.3 A.2 (Computed Radiography) and A.26 (Digital X-Ray, For Presentation); the file
PS3.10 section 7. Nothing here is used on a patient's own images: those are never re-encoded.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import UID

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)
PLUGINS = {RLE_LOSSLESS: "pylibjpeg", JPEG_2000_LOSSLESS: "pylibjpeg"}
"""pydicom's encoding plugin, pinned per transfer syntax."""
LOSSY_BITS = {JPEG_BASELINE: 8, JPEG_EXTENDED: 12}
WRITABLE = (*NATIVE, *LOSSY_BITS, JPEG_LOSSLESS, JPEG_LS_LOSSLESS, HTJ2K_LOSSLESS, *PLUGINS)

_OUR_ROOT = uuid.uuid5(uuid.NAMESPACE_URL, "urn:firstread:dicom")
_REGIONS = {"CHEST": ("816094009", "Chest"), "HAND": ("85562004", "Hand"), "HIP": ("24136001", "Hip joint")}
_VIEWS = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LL": ("399173006", "left lateral"),
}


def uid_from(*parts: str) -> str:
    """A UID under the UUID root 2.25 (PS3.5 B.2), the same for the same ``parts``."""
    return f"2.25.{uuid.uuid5(_OUR_ROOT, chr(31).join(parts)).int}"


@dataclass(frozen=True, slots=True)
class RadiographHeader:
    """What a radiograph says beside its pixels; UIDs are the caller's, see :func:`uid_from`.

    ``patient_name`` is a PN value with ``^`` between components and ``=`` between component groups (PS3.5 6.2.1),
    Unicode. ``laterality`` is the ImageLaterality of a DX image: R, L, U (unpaired) or B. ``spacing_mm`` is (row,
    column). ``window`` is (center, width) in stored values, or None to leave the window out. ``acquired`` is when this
    film was taken, the start of the study where None.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    started: datetime
    acquired: datetime | None = None
    birth_date: date | None = None
    sex: str = ""
    description: str = "Chest PA"
    modality: str = "DX"
    body_part: str = "CHEST"
    view_position: str = "PA"
    laterality: str = "U"
    series_number: int = 1
    instance_number: int = 1
    institution: str = "Firstread simulated hospital"
    spacing_mm: tuple[float, float] = (0.4, 0.4)
    window: tuple[float, float] | None = None
    character_set: tuple[str, ...] = ("ISO_IR 192",)


def write_radiograph(
    path: Path,
    pixels: Pixels,
    header: RadiographHeader,
    *,
    transfer_syntax: str = EXPLICIT_LITTLE,
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    declared_rows: int | None = None,
) -> None:
    """Write ``pixels`` [rows, columns], dense tissue bright, as one CR or DX image.

    MONOCHROME1 is stored inverted, so that it looks the same. ``bits_stored`` is the pixels' own width where
    None; values must fit in it. ``declared_rows`` makes the header lie about Rows, for a corrupt sample.
    Raises ValueError for pixels that do not, and for a transfer syntax not in ``WRITABLE``.
    """
    stored = _stored_pixels(pixels, photometric, bits_stored or pixels.dtype.itemsize * 8)
    dataset = radiograph_dataset(header, transfer_syntax)
    _describe_pixels(dataset, header, stored, photometric, bits_stored or pixels.dtype.itemsize * 8)
    _set_pixels(dataset, stored, transfer_syntax)
    if declared_rows is not None:
        dataset.Rows = declared_rows
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)


def radiograph_dataset(header: RadiographHeader, transfer_syntax: str = EXPLICIT_LITTLE) -> FileDataset:
    """The data set of a radiograph without its pixels, for tests that bend it before saving."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.MediaStorageSOPClassUID = UID(DX_IMAGE_STORAGE if header.modality == "DX" else CR_IMAGE_STORAGE)
    meta.MediaStorageSOPInstanceUID = UID(header.sop_instance_uid)
    dataset = FileDataset(None, {}, preamble=b"\0" * 128, file_meta=meta)  # type: ignore[arg-type]
    dataset.SpecificCharacterSet = list(header.character_set)
    _describe_patient(dataset, header)
    _describe_study(dataset, header)
    if header.modality == "DX":
        _describe_digital_x_ray(dataset, header)
    return dataset


def _describe_patient(dataset: Dataset, header: RadiographHeader) -> None:
    dataset.PatientName = header.patient_name
    dataset.PatientID = header.patient_id
    dataset.PatientBirthDate = header.birth_date.strftime("%Y%m%d") if header.birth_date else ""
    dataset.PatientSex = header.sex


def _describe_study(dataset: Dataset, header: RadiographHeader) -> None:
    acquired = header.acquired or header.started
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = UID(header.sop_instance_uid)
    dataset.StudyInstanceUID = UID(header.study_instance_uid)
    dataset.SeriesInstanceUID = UID(header.series_instance_uid)
    moments = (
        ("Study", header.started),
        ("Series", header.started),
        ("Acquisition", acquired),
        ("Content", acquired),
    )
    for level, moment in moments:
        setattr(dataset, f"{level}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{level}Time", moment.strftime("%H%M%S"))
    if header.started.tzinfo is not None:
        dataset.TimezoneOffsetFromUTC = header.started.strftime("%z")
    dataset.AccessionNumber = header.accession_number
    dataset.StudyID = header.accession_number[:16]
    dataset.StudyDescription = header.description
    dataset.SeriesDescription = header.description
    dataset.InstitutionName = header.institution
    dataset.Manufacturer = "Firstread"
    dataset.ManufacturerModelName = "Simulator"
    dataset.ReferringPhysicianName = ""
    dataset.Modality = header.modality
    dataset.SeriesNumber = header.series_number
    dataset.InstanceNumber = header.instance_number
    dataset.BodyPartExamined = header.body_part
    dataset.ViewPosition = header.view_position
    dataset.PatientOrientation = ["L", "F"] if header.view_position in ("PA", "AP") else ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    if header.modality != "DX" and header.laterality in ("L", "R"):
        dataset.Laterality = header.laterality


def _describe_digital_x_ray(dataset: Dataset, header: RadiographHeader) -> None:
    """The DX modules (PS3.3 C.8.11): type 1 and 2 attributes."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = header.laterality
    dataset.AnatomicRegionSequence = Sequence(_coded(_REGIONS.get(header.body_part)))
    dataset.ViewCodeSequence = Sequence(_coded(_VIEWS.get(header.view_position)))
    dataset.PatientOrientation = ["L", "F"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.RescaleIntercept = "0"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "US"
    dataset.DetectorType = "DIRECT"
    dataset.ImagerPixelSpacing = [f"{value:g}" for value in header.spacing_mm]
    dataset.PositionerType = "NONE"
    dataset.AcquisitionContextSequence = Sequence([])


def _coded(code: tuple[str, str] | None) -> list[Dataset]:
    if code is None:
        return []
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = "SCT"
    return [item]


def _stored_pixels(pixels: Pixels, photometric: str, bits_stored: int) -> Pixels:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        raise ValueError("pixels must be uint8 or uint16 [rows, columns]")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError("photometric must be MONOCHROME1 or MONOCHROME2")
    top = (1 << bits_stored) - 1
    if not 1 <= bits_stored <= pixels.dtype.itemsize * 8 or int(pixels.max()) > top:
        raise ValueError("the pixels do not fit in bits_stored")
    return pixels.dtype.type(top) - pixels if photometric == "MONOCHROME1" else pixels


def _describe_pixels(
    dataset: Dataset, header: RadiographHeader, stored: Pixels, photometric: str, bits_stored: int
) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelSpacing = [f"{value:g}" for value in header.spacing_mm]
    if header.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = (f"{value:g}" for value in header.window)
    if header.modality == "DX":
        inverse = photometric == "MONOCHROME1"
        dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
        dataset.PixelIntensityRelationshipSign = 1 if inverse else -1


def _set_pixels(dataset: FileDataset, stored: Pixels, transfer_syntax: str) -> None:
    if transfer_syntax in NATIVE:
        order: Literal["<", ">"] = ">" if transfer_syntax == EXPLICIT_BIG else "<"
        plain = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = plain + b"\0" * (len(plain) % 2)
        narrow = stored.dtype == np.uint8 and transfer_syntax != IMPLICIT_LITTLE
        dataset["PixelData"].VR = "OB" if narrow else "OW"
    elif transfer_syntax in PLUGINS:
        _encapsulate(dataset, _encoded(dataset, stored, transfer_syntax))
    elif transfer_syntax in WRITABLE:
        if LOSSY_BITS.get(transfer_syntax, dataset.BitsStored) != dataset.BitsStored:
            raise ValueError(f"this transfer syntax holds {LOSSY_BITS[transfer_syntax]} bits")
        frame = _encoded_without_pydicom(stored, int(dataset.BitsStored), transfer_syntax)
        if transfer_syntax in LOSSY_BITS:
            dataset.LossyImageCompression = "01"
            dataset.LossyImageCompressionRatio = f"{stored.nbytes / len(frame):.4g}"
            dataset.LossyImageCompressionMethod = "ISO_10918_1"
        _encapsulate(dataset, frame)
    else:
        raise ValueError("this transfer syntax is not one of WRITABLE")


def _encoded_without_pydicom(stored: Pixels, bits_stored: int, transfer_syntax: str) -> bytes:
    if transfer_syntax == HTJ2K_LOSSLESS:
        return bytes(imagecodecs.htj2k_encode(stored))
    if transfer_syntax == JPEG_LS_LOSSLESS:
        return bytes(imagecodecs.jpegls_encode(stored))
    if transfer_syntax == JPEG_LOSSLESS:
        return bytes(imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=bits_stored))
    return bytes(imagecodecs.jpeg8_encode(stored, level=95, bitspersample=bits_stored))


def _encoded(dataset: Dataset, stored: Pixels, transfer_syntax: str) -> bytes:
    return get_encoder(transfer_syntax).encode(
        np.ascontiguousarray(stored),
        encoding_plugin=PLUGINS[transfer_syntax],
        rows=dataset.Rows,
        columns=dataset.Columns,
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        pixel_representation=0,
        photometric_interpretation=dataset.PhotometricInterpretation,
    )


def _encapsulate(dataset: FileDataset, frame: bytes) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def fictitious_moment(number: int) -> datetime:
    """The time of invented study ``number``: one every 97 minutes from the first of January 2021, UTC."""
    return datetime(2021, 1, 1, 8, tzinfo=UTC) + timedelta(minutes=97 * number)
