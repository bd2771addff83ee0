"""What may tell a plane from another at its place: echoes, times, phases, diffusion, kernels and their like.

Asked where a place is taken twice alone: it is most of the work of reading a header.
"""

from collections.abc import Mapping, Sequence

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
    "part of the complex image": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    "contrast": ("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered", "ContrastBolusAgent"),
    "kernel": ("CTReconstructionSequence", "ConvolutionKernel", "FilterType"),
    "energy": ("CTXRayDetailsSequence", "KVP"),
    "stack": ("FrameContentSequence", "StackID"),
    "frame time": ("FrameContentSequence", "FrameReferenceDateTime", "FrameReferenceTime"),
    "Acquisition Time": (
        "FrameContentSequence", "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime",
    ),
}  # fmt: skip
"""By what planes may be told apart, in this order: the functional group, and the attributes of it or of the header.

Diffusion is said in three ways. Image Type comes last, by what follows the four values that planes of a stack share.
"""
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
    found = {
        name: said(plane.groups, *where) if where else _diffusion(plane.groups)
        for name, where in _GROUPS.items()
    }
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
