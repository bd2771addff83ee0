"""Stacks that are made of others or are a part of them: maps, and phase beside magnitude. They stand for nothing else.

Image Type and Frame Type (PS3.3 C.7.6.1.1.2, C.8.13.3.1, C.8.16.1) are written by makers in words of their own.
"""

from pipeline.images.choose import Reason
from pipeline.images.headers import texts
from pipeline.images.volumes.plane import floats_of
from pipeline.images.volumes.stack import Stack
from pipeline.study import LeftOutReason

COMPLEX_PART = "part of the complex image"
_NOT_MAGNITUDE = frozenset({"PHASE", "REAL", "IMAGINARY", "1", "2", "3"})
"""Complex Image Component (PS3.3 C.8.13.3.1.1); the numbers are GE's, whose 0 is magnitude."""
_MAPS = frozenset(
    {
        "ADC", "EADC", "FA", "TRACEW", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "PBP", "T1 MAP", "T2 MAP",
        "T2 STAR MAP", "T2_STAR MAP", "T1", "T2", "R2", "R2 STAR", "B0", "B1", "B0 MAP", "B1 MAP", "PHASE MAP", "PHASE",
        "VELOCITY", "P", "R", "I", "REAL", "IMAGINARY", "SUBTRACTION", "STD_DEVIATION", "MAT_SPECIFIC",
        "MAT_FRACTIONAL", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "ZEFF", "IODINE",
    }
)  # fmt: skip
_ONE_LETTER_FROM = 2
"""The value of Image Type from which on a single letter is a part of the complex image."""
_OTHER_UNITS = {
    "MGML": "mg/ml of a material", "Z_EFF": "effective atomic numbers", "ED": "electron densities",
    "EDW": "electron densities", "PCT": "parts of a material",
}  # fmt: skip
"""Rescale Type (PS3.3 C.11.1.1.2) of CT whose values say something else than how much it attenuates."""


_CHANGED = frozenset({"MAT_REMOVED", "MAT_MODIFIED"})
"""Images that still look like a CT, from which a material is taken away or in which it is changed (PS3.3 C.8.15.2)."""
USUAL_KEV = 70.0
"""The virtual energy whose image is nearest to one of a usual tube voltage: of several that one is shown."""


def is_changed(stack: Stack) -> bool:
    """Whether a material was computed out of a CT, as in a virtual image without contrast."""
    return bool(_types(stack) & _CHANGED)


def virtual_kev(stack: Stack) -> float:
    """The energy in keV that a virtual image of one energy says (PS3.3 C.8.15.3.12); 0 for others."""
    if "VMI" not in _types(stack):
        return 0.0
    groups = stack.planes[0].groups
    said = floats_of(groups, "MultienergyCTCharacteristicsSequence", "MonoenergeticEnergyEquivalent")
    return said[0] if said else 0.0


def is_map(stack: Stack) -> bool:
    """Whether a stack is a map or a part of a complex image, and no image that a reader begins with."""
    if any(name == COMPLEX_PART and value in _NOT_MAGNITUDE for name, value in stack.apart):
        return True
    return bool(_types(stack) & _MAPS)


def _types(stack: Stack) -> set[str]:
    """The values of Image Type and Frame Type that say what an image is."""
    plane = stack.planes[0]
    types = {*texts(plane.groups[-1], "ImageType")[_ONE_LETTER_FROM:], *plane.image_type[_ONE_LETTER_FROM:]}
    return {one.upper() for one in types}


def refuse_other_unit(stack: Stack) -> Reason | None:
    """Why a CT cannot be shown as one: its values are no Hounsfield units; None where they are or may be."""
    told = _OTHER_UNITS.get(stack.planes[0].unit)
    if told is None:
        return None
    return Reason(
        LeftOutReason.NOT_ACCEPTED, f"a CT whose values are {told}, not Hounsfield units (Rescale Type)"
    )
