"""What may tell a plane from another at its place: echoes, times, phases, diffusion, kernels and their like.

Asked where a place is taken twice alone: it is most of the work of reading a header.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import chain, pairwise

from pipeline.images.headers import Elements, as_pydicom, items, private_value, text, texts
from pipeline.images.volumes.plane import Plane, said

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Acquisition Number": ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    "Temporal Position": ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    "time offset": ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    "Echo": ("MREchoSequence", "EffectiveEchoTime", "EchoNumbers", "EchoTime"),
    "diffusion": (),
    "Trigger Time": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    "cardiac phase": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "respiratory phase": (
        "RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", "RespiratoryTriggerDelayTime",
    ),
    "Inversion Time": ("MRModifierSequence", "InversionTimes", "InversionTime"),
    "Flip Angle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "Repetition Time": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "part of the complex image": (),
    "contrast": ("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered", "ContrastBolusAgent"),
    "kernel": ("CTReconstructionSequence", "ConvolutionKernel", "FilterType"),
    "energy": ("CTXRayDetailsSequence", "KVP"),
    "energy of a virtual image": ("MultienergyCTCharacteristicsSequence", "MonoenergeticEnergyEquivalent"),
    "stack": ("FrameContentSequence", "StackID"),
    "frame time": ("FrameContentSequence", "FrameReferenceDateTime", "FrameReferenceTime"),
    "Acquisition Time": (
        "FrameContentSequence", "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime",
    ),
}  # fmt: skip
"""By what planes may be told apart, in this order: the functional group, and the attributes of it or of the header.

Diffusion and the part of a complex image are said in several ways. Image Type comes last, by what follows the four
values that planes of a stack share.
"""
NEVER_MIXED = frozenset(
    {
        "Temporal Position", "time offset", "Echo", "diffusion", "Inversion Time", "Flip Angle", "Repetition Time",
        "part of the complex image", "contrast", "energy", "energy of a virtual image", "stack", "Image Type",
    }
)  # fmt: skip
"""What does not alternate from plane to plane of one volume: two that lie half a step apart look like one by their
places. Numbers and times of acquisitions, triggers and phases do alternate in good ones.
"""
_TIME = re.compile(r"([0-9]{4,14})(?:\.[0-9]{1,6})?")
_PRIVATE_DIFFUSION = (
    ((0x0019, "SIEMENS MR HEADER"), (0x0C, 0x0E)),
    ((0x0043, "GEMS_PARM_01"), (0x39,)),
    ((0x0019, "GEMS_ACQU_01"), (0xBB, 0xBC, 0xBD)),
    ((0x2001, "Philips Imaging DD 001"), (0x03,)),
    ((0x2005, "Philips MR Imaging DD 001"), (0xB0, 0xB1, 0xB2)),
)
"""Where three makers keep b-value and direction of a classic image; what the values mean is not asked."""


def told_apart_by(plane: Plane) -> tuple[tuple[str, str], ...]:
    """What may tell the plane from another at its place, by name; a value that is not said is ""."""
    found = {name: said(plane.groups, *where) if where else "" for name, where in _GROUPS.items()}
    found["diffusion"] = _diffusion(plane.groups)
    found["part of the complex image"] = _complex_part(plane.groups)
    found["Image Type"] = "\\".join(texts(plane.groups[-1], "ImageType")[4:])
    return tuple(found.items())


def _diffusion(groups: Sequence[Elements]) -> str:
    value = said(groups, "MRDiffusionSequence", "DiffusionBValue")
    direction = said(groups, "MRDiffusionSequence", "DiffusionGradientOrientation") or _nested(
        groups, "MRDiffusionSequence", "DiffusionGradientDirectionSequence", "DiffusionGradientOrientation"
    )
    if value or direction:
        return "\\".join((value, direction)).strip("\\")
    if text(groups[-1], "Modality").upper() != "MR":
        return ""
    header = as_pydicom(groups[-1])  # once: it is the whole header
    return "\\".join(
        str(one)
        for block, elements in _PRIVATE_DIFFUSION
        for element in elements
        if (one := private_value(header, block, element)) is not None
    )


def _complex_part(groups: Sequence[Elements]) -> str:
    """Magnitude, phase, real or imaginary; GE says it of a classic image by a number of its own."""
    if found := said(groups, "MRImageFrameTypeSequence", "ComplexImageComponent"):
        return found
    if text(groups[-1], "Modality").upper() != "MR" or not text(
        groups[-1], "Manufacturer"
    ).upper().startswith("GE"):
        return ""
    kept = private_value(groups[-1], (0x0043, "GEMS_PARM_01"), 0x2F)
    return "" if kept is None else str(kept)


AT_LAST: Mapping[str, str] = {"Series Number": "SeriesNumber", "Series Description": "SeriesDescription"}
"""What tells two series apart that an archive or a conversion put under one Series Instance UID."""
_TIMES: Mapping[str, tuple[str, ...]] = {
    "Acquisition Time": _GROUPS["Acquisition Time"],
    "Content Time": ("FrameContentSequence", "ContentTime"),
}


def sweeps(places: Sequence[Sequence[Plane]]) -> tuple[str, list[list[Plane]]] | None:
    """Planes at ``places`` as sweeps over all of them, and the time that tells them; None where none does.

    Each place has one plane of each sweep, and a sweep is over before the next begins.
    """
    several = len(places[0])
    if several < 2 or len(places) < 2 or any(len(one) != several for one in places):
        return None
    for name, (sequence, *keywords) in _TIMES.items():
        moments: dict[int, tuple[int, Decimal]] = {}
        for plane in chain.from_iterable(places):
            if (moment := _moment(said(plane.groups, sequence, *keywords))) is not None:
                moments[id(plane)] = moment
        if len(moments) < several * len(places) or len({digits for digits, _ in moments.values()}) > 1:
            continue
        in_order = [sorted(one, key=lambda plane, of=moments: of[id(plane)]) for one in places]  # type: ignore[misc]
        made = [list(one) for one in zip(*in_order, strict=True)]
        ends = [[moments[id(plane)] for plane in one] for one in made]
        if all(max(one) < min(other) for one, other in pairwise(ends)):
            return name, made
    return None


def _moment(told: str) -> tuple[int, Decimal] | None:
    """A time or a date and time as a number, and how many digits say it; None where it is none."""
    found = _TIME.match(told)
    return (len(found[1]), Decimal(found[0])) if found else None


def _nested(groups: Sequence[Elements], outer: str, inner: str, keyword: str) -> str:
    return next(
        (
            found
            for group in groups
            for item in items(group, outer)
            if (found := said((item,), inner, keyword))
        ),
        "",
    )
