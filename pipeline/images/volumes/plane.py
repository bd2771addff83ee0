"""One plane of a volume: a stored frame, where it lies in the patient, and what tells it from others at its place.

Classic objects hold one plane each (PS3.3 C.7.6.2); enhanced and legacy-converted ones a frame for each plane, whose
attributes stand in functional groups, those of a frame before the shared ones (PS3.3 C.7.6.16).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pipeline.images.choose import Reason
from pipeline.images.context import instance_ref
from pipeline.images.headers import Elements, Header, integer, items, numbers, text, texts
from pipeline.images.kinds import modality_of
from pipeline.study import InstanceRef, LeftOutReason

Vector = tuple[float, float, float]

NO_VOLUME_KINDS = frozenset(
    {
        "LOCALIZER", "SCOUT", "PROJECTION IMAGE", "MIP", "MINIP", "MAX_IP", "MIN_IP", "SCREEN SAVE", "DOSE",
        "DOSE_INFO",
    }
)  # fmt: skip
"""Image Type values of pictures that lie among the planes of a series and are none of its volume."""
_CONE_BEAM = "1.2.840.10008.5.1.4.1.1.13.1.2"
UNIT_LENGTH = 1e-3
"""How far a direction cosine vector may be from length one, and a row from a right angle with its column."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One stored frame (from 0) in the patient's coordinates: LPS, millimetres (PS3.3 C.7.6.2.1.1).

    ``position`` is the centre of the first pixel; ``along_row`` points to where columns count up, ``down_column`` to
    where rows count up, both of length one. ``spacing`` is (between rows, between columns). ``same`` is what the planes
    of one volume have in common. ``groups`` are the frame's functional groups, the shared ones and the header; of a
    classic object the header alone. ``slope`` and ``intercept`` lead from stored values to ``unit`` ("HU", "BQML", ""
    where nothing is said). ``image_type`` are the first four values of Image Type, a frame's own before the object's.
    """

    header: Header
    frame: int
    ref: InstanceRef
    rows: int
    columns: int
    spacing: tuple[float, float]
    position: Vector
    along_row: Vector
    down_column: Vector
    same: tuple[str, ...]
    groups: tuple[Elements, ...]
    slope: float
    intercept: float
    unit: str
    number: int
    image_type: tuple[str, ...] = ()

    @property
    def normal(self) -> Vector:
        """The direction across the plane: row times column, of length one."""
        (a, b, c), (d, e, f) = self.along_row, self.down_column
        across = b * f - c * e, c * d - a * f, a * e - b * d
        return _of_length_one(across, math.hypot(*across))


def planes_of(header: Header) -> tuple[Plane, ...] | Reason:
    """The planes of one instance in the order of its frames, or why it is no part of a volume."""
    dataset = header.dataset
    if (integer(dataset, "SamplesPerPixel") or 1) != 1:
        return Reason(LeftOutReason.COLOUR_SLICE, "a colour picture, not a plane of grey values")
    if text(dataset, "PhotometricInterpretation").upper() == "PALETTE COLOR":
        return Reason(
            LeftOutReason.COLOUR_SLICE, "a picture in colours of a palette, not a plane of grey values"
        )
    kinds = {kind.upper() for kind in texts(dataset, "ImageType")}
    if "MOSAIC" in kinds:
        return Reason(LeftOutReason.MOSAIC, "a mosaic: many planes drawn into one picture")
    if kinds & NO_VOLUME_KINDS or "REPROJECTION" in texts(dataset, "SeriesType"):  # PS3.3 C.8.9.1.1.1
        return Reason(
            LeftOutReason.NOT_A_PLANE, "a localiser, projection or screen beside the volume (Image Type)"
        )
    if items(dataset, "ModalityLUTSequence") and not numbers(dataset, "RescaleSlope"):
        return Reason(
            LeftOutReason.NOT_ACCEPTED,
            "a plane whose values are led to by a table (Modality LUT Sequence), which is read of films alone",
        )
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames:
        if (integer(dataset, "NumberOfFrames") or 1) != 1:
            return Reason(LeftOutReason.NO_POSITION, "several frames, and nothing says where each lies")
        plane = _plane(header, 0, (dataset,))
        return plane if isinstance(plane, Reason) else (plane,)
    shared = (items(dataset, "SharedFunctionalGroupsSequence") or (Dataset(),))[0]
    planes = []
    for number, frame in enumerate(frames):
        plane = _plane(
            header,
            number,
            (*_with_unassigned(frame, "PerFrame"), *_with_unassigned(shared, "Shared"), dataset),
        )
        if isinstance(plane, Reason):
            return plane
        planes.append(plane)
    if len(planes) != (integer(dataset, "NumberOfFrames") or 1):
        return Reason(LeftOutReason.NO_POSITION, "the header places more or fewer frames than it holds")
    return tuple(planes)


def _with_unassigned(group: Elements, which: str) -> tuple[Elements, ...]:
    """A group, and what a conversion from classic objects knew no other place for (PS3.3 C.7.6.16.2.25)."""
    return (group, *items(group, f"Unassigned{which}ConvertedAttributesSequence"))


def _plane(header: Header, frame: int, groups: Sequence[Elements]) -> Plane | Reason:
    dataset = header.dataset
    position = floats_of(groups, "PlanePositionSequence", "ImagePositionPatient")
    cosines = floats_of(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = floats_of(groups, "PixelMeasuresSequence", "PixelSpacing")
    if len(position) != 3 or len(cosines) != 6:
        return Reason(
            LeftOutReason.NO_POSITION, "the header does not say where the plane lies in the patient"
        )
    if len(spacing) != 2 or min(spacing) <= 0:
        return Reason(
            LeftOutReason.NO_SPACING, "the header does not say how far the pixels lie apart (Pixel Spacing)"
        )
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    leaning = sum(one * other for one, other in zip(row, column, strict=True))
    if max(abs(1 - length) for length in lengths) > UNIT_LENGTH or abs(leaning) > UNIT_LENGTH:
        return Reason(
            LeftOutReason.NO_POSITION, "the directions of rows and columns are no right angle of unit vectors"
        )
    image_type = _image_type(groups)
    return Plane(
        header=header,
        frame=frame,
        ref=instance_ref(dataset),
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        spacing=(spacing[0], spacing[1]),
        position=(position[0], position[1], position[2]),
        along_row=_of_length_one(row, lengths[0]),
        down_column=_of_length_one(column, lengths[1]),
        same=(
            text(dataset, "SeriesInstanceUID"),
            text(dataset, "SOPClassUID"),
            text(dataset, "FrameOfReferenceUID"),
            said(groups, "CTReconstructionSequence", "ConvolutionKernel"),
            *image_type,
        ),
        groups=tuple(groups),
        slope=_rescale(groups, "RescaleSlope", 1.0) or 1.0,
        intercept=_rescale(groups, "RescaleIntercept", 0.0),
        unit=_unit(groups),
        number=integer(dataset, "InstanceNumber") or 0,
        image_type=image_type,
    )


def _image_type(groups: Sequence[Elements]) -> tuple[str, ...]:
    """Image Type values 1 to 4, a frame's own before the object's (Frame Type, PS3.3 C.8.16.1)."""
    for sequence in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        for group in groups:
            for item in items(group, sequence):
                return texts(item, "FrameType")[:4]
    return texts(groups[-1], "ImageType")[:4]


def _unit(groups: Sequence[Elements]) -> str:
    modality = text(groups[-1], "Modality").upper()
    modality = modality if modality in ("CT", "MR", "PT") else modality_of(groups[-1])
    kind = said(groups, "PixelValueTransformationSequence", "RescaleType").upper()
    if modality == "PT":
        return said(groups, "PETFrameTypeSequence", "Units").upper() or kind
    if kind in ("US", "UNSPECIFIED", "NORMALIZED"):
        return ""
    if not kind and text(groups[-1], "SOPClassUID") == _CONE_BEAM:
        return ""  # its values are Hounsfield units only where it says so
    return "HU" if modality == "CT" and kind in ("", "HOUNSFIELD", "HU_MOD") else kind


def _rescale(groups: Sequence[Elements], keyword: str, default: float) -> float:
    found = floats_of(groups, "PixelValueTransformationSequence", keyword)
    return found[0] if found else default


def floats_of(groups: Sequence[Elements], sequence: str, keyword: str) -> tuple[float, ...]:
    """A functional group's numbers of the first group that has them, else the attribute beside them."""
    for group in groups:
        for item in (*items(group, sequence), group):
            found = numbers(item, keyword)
            if found:
                return found
    return ()


def said(groups: Sequence[Elements], sequence: str, *keywords: str) -> str:
    """The text of the first of ``keywords`` that a group has, in its item of ``sequence`` or beside it; "" for none."""
    for group in groups:
        for item in (*items(group, sequence), group):
            for keyword in keywords:
                if found := text(item, keyword):
                    return found
    return ""


def _of_length_one(vector: Sequence[float], length: float) -> Vector:
    return vector[0] / length, vector[1] / length, vector[2] / length
