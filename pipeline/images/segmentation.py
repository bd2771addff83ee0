"""A mask as a DICOM Segmentation beside the planes that it was drawn on (PS3.3 A.51), and as an overlay for people.

highdicom writes the object (the extra ``segmentation``). It is given plain copies of what our headers said: text in one
character set, one plane each, so that frames of enhanced objects are named by their number, too.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from pipeline.dicom_writer import uid_from
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.images.headers import MALFORMED, text
from pipeline.images.volumes.stack import Stack
from pipeline.report import OUTLINES, Segment, Side
from pipeline.study import Code, InstanceRef, StudyImage, StudyVolume

Labels = npt.NDArray[np.integer[Any]]
SegmentationType = Literal["binary", "labelmap"]
_NUMBER_OF_SERIES = 9100
_TEXTS = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName",
          "StudyDescription")  # fmt: skip
_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
}
_CLASSIC = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
"""Classes of single planes; the planes' own class is named when the object is whole."""
_ANATOMY = ("123037004", "SCT", "Anatomical Structure")
_OTHER = ("309825002", "SCT", "Spatial and Relational Concept")
_ARTIFICIAL_INTELLIGENCE = ("123109", "DCM", "Artificial Intelligence")
_SIDES = {
    Side.LEFT: ("7771000", "SCT", "Left"),
    Side.RIGHT: ("24028007", "SCT", "Right"),
    Side.BILATERAL: ("51440002", "SCT", "Right and left"),
}


@dataclass(frozen=True, slots=True)
class MadeBy:
    """What made a mask: the model's name and version, the recipe of the draft that it belongs to, and when it was made:
    two drafts of one recipe are two objects.
    """

    model: str
    version: str
    recipe: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class SegmentationObject:
    """A Segmentation as a file, and its segments by the numbers that they have there (0 where none was found)."""

    ref: InstanceRef
    sop_class_uid: str
    content: bytes
    segments: tuple[Segment, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file."""
        return hashlib.sha256(self.content).hexdigest()


def require_highdicom() -> None:
    """Raises ConfigurationError("extra") where the library that writes segmentations is not installed."""
    if find_spec("highdicom") is None:
        raise ConfigurationError(
            "extra", "segmentations need highdicom: pip install 'firstread[segmentation]'"
        )


def write_segmentation(
    volume: StudyVolume, labels: Labels, segments: Sequence[Segment], made: MadeBy, kind: SegmentationType
) -> SegmentationObject | None:
    """The Segmentation of ``labels`` [planes, rows, columns] on ``volume``; None where no voxel is labelled.

    ``kind`` "binary" has a frame for each segment and plane and is read everywhere; "labelmap" (PS3.3 A.51.5 of 2024d)
    has one for each plane, compressed without loss. UIDs are the same for the same mask of the same draft.

    Raises FailStudy("segmentation") where the planes have no Frame of Reference, or highdicom refuses them.
    """
    there = [one for one in segments if one.voxels]
    if not there:
        return None
    stack = cast("Stack", volume.sources)
    if not text(stack.planes[0].header.dataset, "FrameOfReferenceUID"):
        message = "no segmentation was written: the series names no Frame of Reference"
        raise FailStudy("segmentation", message)
    numbers = {one.number: place for place, one in enumerate(there, 1)}
    lookup: Any = np.zeros(int(labels.max()) + 1, np.uint8 if len(there) < 256 else np.uint16)
    for number, place in numbers.items():
        lookup[number] = place
    mask: Labels = lookup[labels]
    named = InstanceRef(volume.planes[0][0].study_instance_uid, *_uids(volume, mask, made, kind))
    sources = [_source(stack, place) for place in range(len(stack.planes))]
    written = [replace(one, number=numbers.get(one.number, 0)) for one in segments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are not as the standard has them
            dataset = _written(sources, mask, [one for one in written if one.number], named, made, kind)
            sop_class = text(stack.planes[0].header.dataset, "SOPClassUID")
            _name_frames(
                dataset, {_own(place): volume.planes[place] for place in range(len(sources))}, sop_class
            )
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
    except MALFORMED as error:
        message = f"no segmentation was written: the planes do not fit one ({type(error).__name__})"
        raise FailStudy("segmentation", message) from None
    return SegmentationObject(named, str(dataset.SOPClassUID), buffer.getvalue(), tuple(written))


def _uids(volume: StudyVolume, mask: Labels, made: MadeBy, kind: str) -> tuple[str, str]:
    digest = hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()
    source = volume.planes[0][0]
    parts = (source.study_instance_uid, source.series_instance_uid, made.recipe, made.model, kind)
    return uid_from("segmentation-series", *parts), uid_from("segmentation", *parts, made.at, digest)


def _own(place: int) -> str:
    """What the plane at ``place`` is called until the object is whole."""
    return f"2.25.{place + 1}"


def _source(stack: Stack, place: int) -> Dataset:
    """One plane as a classic object with as much of a header as a result beside it repeats."""
    plane = stack.planes[place]
    header = plane.header.dataset
    source = Dataset()
    source.SpecificCharacterSet = "ISO_IR 192"
    source.Modality = text(header, "Modality")
    source.SOPClassUID, source.SOPInstanceUID = _CLASSIC.get(source.Modality, _CLASSIC["CT"]), _own(place)
    source.StudyInstanceUID = plane.ref.study_instance_uid
    source.SeriesInstanceUID = plane.ref.series_instance_uid
    source.FrameOfReferenceUID = text(header, "FrameOfReferenceUID")
    for keyword in _TEXTS:
        setattr(source, keyword, text(header, keyword))
    for keyword, form in _FORMS.items():
        value = text(header, keyword)
        setattr(source, keyword, value if re.fullmatch(form, value) else "")
    source.Rows, source.Columns = plane.rows, plane.columns
    source.ImagePositionPatient = [_decimal(one) for one in plane.position]
    first = stack.planes[0]
    source.ImageOrientationPatient = [_decimal(one) for one in (*first.along_row, *first.down_column)]
    source.PixelSpacing = [_decimal(one) for one in first.spacing]
    across = np.array(stack.step or (0.0, 0.0, 0.0)) @ np.array(first.normal)
    source.SliceThickness = source.SpacingBetweenSlices = _decimal(abs(float(across)))
    return source


def _decimal(value: float) -> str:
    """A Decimal String of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.9g}"[:16]


def _written(
    sources: Sequence[Dataset],
    mask: Labels,
    segments: Sequence[Segment],
    named: InstanceRef,
    made: MadeBy,
    kind: SegmentationType,
) -> Dataset:
    hd: Any = import_module("highdicom")  # an extra, and slow to import
    compressed = {"transfer_syntax_uid": JPEGLSLossless} if kind == "labelmap" else {}
    dataset = hd.seg.Segmentation(
        source_images=list(sources),
        pixel_array=mask,
        segmentation_type=kind.upper(),
        segment_descriptions=[_description(one, named, made) for one in segments],
        series_instance_uid=named.series_instance_uid,
        series_number=_NUMBER_OF_SERIES,
        series_description="Machine-made segmentation, not verified",
        sop_instance_uid=named.sop_instance_uid,
        instance_number=1,
        manufacturer="Firstread",
        manufacturer_model_name=made.model[:64],
        software_versions=(made.version or "unknown")[:64],
        device_serial_number=made.recipe[:16] or "unknown",
        content_label="MACHINE_MADE",
        content_description="Machine-made segmentation that no person has verified",
        **compressed,
    )
    return cast("Dataset", dataset)


def _description(segment: Segment, named: InstanceRef, made: MadeBy) -> Any:
    hd: Any = import_module("highdicom")
    code = segment.code or Code("99FIRSTREAD", segment.label[:16] or "?", segment.name)
    described = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name[:64],
        segmented_property_category=hd.sr.CodedConcept(*(_ANATOMY if segment.code else _OTHER)),
        segmented_property_type=hd.sr.CodedConcept(
            code.value, code.scheme, (code.meaning or segment.name)[:64]
        ),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=made.model[:64],
            version=(made.version or "unknown")[:64],
            family=hd.sr.CodedConcept(*_ARTIFICIAL_INTELLIGENCE),
        ),
        tracking_uid=uid_from("segment", named.sop_instance_uid, str(segment.number)),
        tracking_id=f"{segment.label or segment.name}"[:64],
    )
    if segment.side is not None:
        side = hd.sr.CodedConcept(*_SIDES[segment.side])
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return described


def _name_frames(dataset: Dataset, planes: Mapping[str, tuple[InstanceRef, int]], sop_class: str) -> None:
    """Put the instances, and the frames of enhanced ones, in the place of what the planes were called meanwhile."""
    frames = len({ref for ref, _ in planes.values()}) < len(planes)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derived in group.get("DerivationImageSequence", ()):
            for source in derived.SourceImageSequence:
                known = planes.get(str(source.ReferencedSOPInstanceUID))
                if known is None:
                    continue  # highdicom puts one item under several frames
                ref, frame = known
                source.ReferencedSOPInstanceUID = ref.sop_instance_uid
                source.ReferencedSOPClassUID = sop_class
                if frames:
                    source.ReferencedFrameNumber = frame + 1
    for series in dataset.get("ReferencedSeriesSequence", ()):
        series.ReferencedInstanceSequence = list(_once(series.ReferencedInstanceSequence, planes, sop_class))
    if "SourceImageSequence" in dataset:
        dataset.SourceImageSequence = list(_once(dataset.SourceImageSequence, planes, sop_class))


def _once(
    named: Iterable[Dataset], planes: Mapping[str, tuple[InstanceRef, int]], sop_class: str
) -> Iterable[Dataset]:
    seen = set()
    for one in named:
        known = planes.get(str(one.ReferencedSOPInstanceUID))
        uid = known[0].sop_instance_uid if known else str(one.ReferencedSOPInstanceUID)
        if uid not in seen:
            seen.add(uid)
            one.ReferencedSOPInstanceUID, one.ReferencedSOPClassUID = uid, sop_class
            yield one


def overlay(image: StudyImage, volume: StudyVolume, labels: Labels, numbers: Sequence[int]) -> bytes:
    """The outlines of the segments on one plane as it is shown: a PNG with clear ground, b"" where none crosses it.

    ``numbers`` are the labels in the order of the segments, by which they are coloured.
    """
    place = volume.planes.index((image.ref, image.frame))
    order = np.zeros(int(labels.max()) + 1, np.uint16)
    order[list(numbers)] = np.arange(1, len(numbers) + 1)
    plane = order[image.turn.of(labels[place])]
    if not plane.any():
        return b""
    inside = plane > 0
    same = np.ones(plane.shape, bool)
    for axis in (0, 1):
        apart = np.diff(plane.astype(np.int32), axis=axis) != 0
        here = [slice(None), slice(None)]
        here[axis] = slice(1, None)
        same[tuple(here)] &= ~apart
        here[axis] = slice(None, -1)
        same[tuple(here)] &= ~apart
    edge = inside & ~same
    shown = np.where(edge, (plane - 1) % len(OUTLINES) + 1, 0).astype(np.uint8)
    picture = Image.frombytes("P", (shown.shape[1], shown.shape[0]), shown.tobytes())
    picture.putpalette(bytes(3) + bytes.fromhex("".join(OUTLINES).replace("#", "")))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=0, optimize=True)
    return buffer.getvalue()
