"""What a model takes beside films, said by its catalogue entry: values that the path compares a study with."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What one instance is, whatever model may read it (PS3.3 A.1.3; PS3.4 B.5)."""

    FILM = "film"
    MAMMOGRAM = "mammogram"
    TOMOSYNTHESIS = "tomosynthesis"
    SLICES = "slices"
    """Planes of CT, MR or PET, classic or enhanced."""
    PHOTOGRAPH = "photograph"
    """Visible light: endoscopy, microscopy, dermoscopy, photography."""
    OPHTHALMIC = "ophthalmic"
    OCT = "oct"
    ULTRASOUND = "ultrasound"
    SLIDE = "slide"
    CINE = "cine"
    VIDEO = "video"
    NUCLEAR = "nuclear"
    CAPTURE = "capture"
    """A secondary capture of something else."""
    RESULT = "result"
    """Somebody's result (segmentation, report, measurement): never an input of a draft."""
    UNKNOWN = "unknown"


MODALITIES: Mapping[Kind, frozenset[str]] = {
    Kind.FILM: frozenset({"CR", "DX", "DR", "RG", "IO", "PX"}),
    Kind.MAMMOGRAM: frozenset({"MG"}),
    Kind.TOMOSYNTHESIS: frozenset({"MG", "CT"}),
    Kind.SLICES: frozenset({"CT", "MR", "PT"}),
    Kind.PHOTOGRAPH: frozenset({"ES", "GM", "XC", "DMS"}),
    Kind.OPHTHALMIC: frozenset({"OP"}),
    Kind.OCT: frozenset({"OPT", "OPTENF", "IVOCT"}),
    Kind.ULTRASOUND: frozenset({"US"}),
    Kind.SLIDE: frozenset({"SM"}),
    Kind.CINE: frozenset({"US", "IVUS", "XA", "RF"}),
    Kind.VIDEO: frozenset({"ES", "GM", "XC"}),
    Kind.NUCLEAR: frozenset({"NM"}),
}
"""What instances of a kind say in Modality (0008,0060)."""


@dataclass(frozen=True, slots=True)
class Accepts:
    """One kind that a model reads.

    ``modalities`` as DICOM names them, any where empty. Of slices: a stack has at least ``least`` planes; of more than
    ``most`` so many are shown, evenly chosen, the first and the last among them; ``windows`` are ranges (low, high) in
    Hounsfield units that CT is shown in: one gives grey pictures, three give the channels of a colour picture; none:
    the window of the header, else -160 to 240. Of pictures: at most ``most`` of a study are shown.
    """

    kind: Kind
    modalities: tuple[str, ...] = ()
    least: int = 1
    most: int = 32
    windows: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        """For people: "slices (CT, MR), at most 32"."""
        among = f" ({', '.join(self.modalities)})" if self.modalities else ""
        return f"{self.kind}{among}, at most {self.most}"

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no sense."""
        if not 1 <= self.least <= self.most:
            raise ValueError(f"{self.kind}: 1 <= least <= most")
        if len(self.windows) not in (0, 1, 3) or any(low >= high for low, high in self.windows):
            raise ValueError(f"{self.kind}: no window, one or three, each low < high")
