"""What a model takes beside films, said by its catalogue entry: values that the path compares a study with."""

from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True, slots=True)
class Modality:
    """A term of Modality (0008,0060): the kinds of which its instances are, that of a secondary capture first, and what
    one is called.
    """

    kinds: tuple[Kind, ...]
    words: str


MODALITIES: Mapping[str, Modality] = {
    "CR": Modality((Kind.FILM,), "a radiograph"),
    "DX": Modality((Kind.FILM,), "a radiograph"),
    "DR": Modality((Kind.FILM,), "a radiograph"),
    "RG": Modality((Kind.FILM,), "a radiograph"),
    "IO": Modality((Kind.FILM,), "a dental radiograph"),
    "PX": Modality((Kind.FILM,), "a panoramic film"),
    "MG": Modality((Kind.MAMMOGRAM, Kind.TOMOSYNTHESIS), "a mammogram"),
    "CT": Modality((Kind.SLICES, Kind.TOMOSYNTHESIS), "a CT"),
    "MR": Modality((Kind.SLICES,), "an MR"),
    "PT": Modality((Kind.SLICES,), "a PET"),
    "US": Modality((Kind.ULTRASOUND, Kind.CINE), "an ultrasound picture"),
    "IVUS": Modality((Kind.CINE,), "an ultrasound of a vessel"),
    "XA": Modality((Kind.CINE, Kind.SLICES), "an angiogram"),
    "RF": Modality((Kind.CINE,), "a fluoroscopy"),
    "NM": Modality((Kind.NUCLEAR,), "a nuclear medicine image"),
    "ES": Modality((Kind.PHOTOGRAPH, Kind.VIDEO), "an endoscopic picture"),
    "GM": Modality((Kind.PHOTOGRAPH, Kind.VIDEO), "a microscopic picture"),
    "XC": Modality((Kind.PHOTOGRAPH, Kind.VIDEO), "a photograph"),
    "DMS": Modality((Kind.PHOTOGRAPH,), "a dermoscopic picture"),
    "SM": Modality((Kind.SLIDE,), "a pathology slide"),
    "OP": Modality((Kind.OPHTHALMIC,), "an eye photograph"),
    "OPT": Modality((Kind.OCT,), "an OCT of the eye"),
    "OPTENF": Modality((Kind.OCT,), "an OCT of the eye"),
    "IVOCT": Modality((Kind.OCT,), "an OCT of a vessel"),
    "SEG": Modality((Kind.RESULT,), "a segmentation"),
    "SR": Modality((Kind.RESULT,), "a report"),
    "KO": Modality((Kind.RESULT,), "a selection of images"),
    "PR": Modality((Kind.RESULT,), "a presentation state"),
    "DOC": Modality((Kind.RESULT,), "a document"),
}
"""The one table of modalities (PS3.3 C.7.3.1.1.1; DR is no term of it, but machines write it)."""

_MANY: Mapping[Kind, str] = {
    Kind.FILM: "films",
    Kind.MAMMOGRAM: "mammograms",
    Kind.TOMOSYNTHESIS: "breast tomosyntheses",
    Kind.PHOTOGRAPH: "photographs, endoscopy and microscopy",
    Kind.OPHTHALMIC: "eye photographs",
    Kind.OCT: "OCT",
    Kind.ULTRASOUND: "ultrasound pictures",
    Kind.SLIDE: "pathology slides",
    Kind.CINE: "clips",
    Kind.VIDEO: "videos",
    Kind.NUCLEAR: "nuclear medicine images",
}
"""What people call several of a kind; of planes they say the modality."""
_PLANES_OF: Mapping[str, str] = {"PT": "PET", "XA": "rotational angiography"}
FRONTAL_CHEST_FILMS = "frontal chest films"
ORIENTATIONS = frozenset({"axial", "coronal", "sagittal", "oblique"})


def modalities_of_kind(kind: Kind) -> frozenset[str]:
    """What instances of a kind say in Modality."""
    return frozenset(term for term, modality in MODALITIES.items() if kind in modality.kinds)


@dataclass(frozen=True, slots=True)
class Accepts:
    """One kind that a model reads.

    ``modalities`` as DICOM names them, ``body_parts`` as Body Part Examined does (a part that holds a named one is
    read, too), ``views`` as View Position or its codes do: any where empty. Where parts or views are named, one that
    the header does not say is read only with ``unknown_body_part`` and ``unknown_view``.

    Of slices: ``planes`` are the orientations that are shown (axial, coronal, sagittal, oblique; any where empty), a
    stack has at least ``least`` of them and no gap, or with ``gaps`` one that the report names; of more than ``most``
    so many are shown, evenly chosen, the first and the last among them, or with ``steps`` the end of each of ``most``
    like steps, without the first; ``windows`` are ranges (low, high) in Hounsfield units that CT is shown in: one gives
    grey pictures, three give the channels of a colour picture; none: the window of the header, else -160 to 240;
    ``suv`` is the range (low, high) of standardized uptake by body weight in g/mL that PET is shown in, and PET of
    which it cannot be computed is refused; None: where it can be it is shown from 0 to 10, else as MR is; ``whole``
    gives the values of every plane beside the pictures. Of pictures: at most ``most`` of a study are shown; of clips
    and videos ``rate`` frames a second, where it is not 0 and the header tells the time of frames, else evenly chosen
    ones; with a ``least`` above one as many as that makes, at least ``least``, spread from the first to the last, and
    ``least`` where no time is told; of a slide all of it small and tiles with tissue of the level whose pixels lie most
    nearly ``microns`` micrometres apart (0: 1).
    """

    kind: Kind
    modalities: tuple[str, ...] = ()
    least: int = 1
    most: int = 32
    windows: tuple[tuple[float, float], ...] = ()
    body_parts: tuple[str, ...] = ()
    unknown_body_part: bool = False
    views: tuple[str, ...] = ()
    unknown_view: bool = False
    planes: tuple[str, ...] = ()
    gaps: bool = False
    whole: bool = False
    rate: float = 0.0
    suv: tuple[float, float] | None = None
    microns: float = 0.0
    steps: bool = False

    def __str__(self) -> str:
        """For people: "slices (CT, MR) of the chest, at most 32"."""
        among = f" ({', '.join(self.modalities)})" if self.modalities else ""
        parts = (
            f" of the {' or the '.join(one.lower() for one in self.body_parts)}" if self.body_parts else ""
        )
        how = "".join(f", {' or '.join(said)}" for said in (self.planes, self.views) if said)
        often = f", {self.rate:g} a second" if self.rate else ""
        often += f" but at least {self.least}" if self.rate and self.least > 1 else ""
        often += f", {self.microns:g} micrometres a pixel" if self.microns else ""
        uptake = f", SUV {self.suv[0]:g} to {self.suv[1]:g}" if self.suv else ""
        return f"{self.kind}{among}{parts}{how}{uptake}{often}, at most {self.most}"

    @property
    def in_words(self) -> str:
        """For a radiographer: "CT and MR of the chest", "mammograms"."""
        parts = (
            f" of the {' or the '.join(one.lower() for one in self.body_parts)}" if self.body_parts else ""
        )
        return listed(self.named) + parts

    @property
    def named(self) -> tuple[str, ...]:
        """What is read, each by itself: planes by their modality."""
        if self.kind in _MANY:
            return (_MANY[self.kind],)
        modalities = self.modalities or tuple(sorted(modalities_of_kind(self.kind)))
        return tuple(_PLANES_OF.get(one, one) for one in modalities)

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no sense."""
        if not 1 <= self.least <= self.most:
            raise ValueError(f"{self.kind}: 1 <= least <= most")
        if not 0 <= self.rate <= 1000:
            raise ValueError(f"{self.kind}: rate is the frames a second that are shown, 0 to 1000")
        if len(self.windows) not in (0, 1, 3) or any(low >= high for low, high in self.windows):
            raise ValueError(f"{self.kind}: no window, one or three, each low < high")
        if not 0 <= self.microns <= 1000:
            raise ValueError(f"{self.kind}: microns is the distance of pixels in micrometres, 0 to 1000")
        if self.suv and not 0 <= self.suv[0] < self.suv[1]:
            raise ValueError(f"{self.kind}: suv is a range, 0 <= low < high")
        if unknown := set(self.planes) - ORIENTATIONS:
            raise ValueError(f"{self.kind}: {min(unknown)} is no orientation of planes")


USUAL_SIDE, WHOLE_FILM = 1024, 1 << 16
"""Longest side in pixels that a film is brought to before a model's own preprocessing, and more than any film has."""


@dataclass(frozen=True, slots=True)
class StudyReader:
    """Who reads the studies of a site, for admission and for the words of a refusal.

    ``name`` is the model's, or "the models of this site". ``films`` says that frontal films of the chest are read,
    ``laterals`` that a lateral one is shown beside them, ``accepts`` what else. ``longest_side`` is what a film of the
    chest is brought to at most before the model's own preprocessing, in pixels: ``WHOLE_FILM`` leaves it as stored.
    ``smaller_sides`` are those of further models that share the studies.
    """

    name: str
    laterals: bool = False
    accepts: tuple[Accepts, ...] = ()
    longest_side: int = USUAL_SIDE
    smaller_sides: tuple[int, ...] = ()

    @property
    def reads(self) -> str:
        """ "firstread-mini reads frontal chest films"."""
        verb = "read" if self.name.startswith("the ") else "reads"
        whole = {one.kind for one in self.accepts if not one.modalities and not one.body_parts}
        told: list[str] = []
        for one in self.accepts:
            if one.kind not in whole or not one.modalities:
                told += (one.in_words,) if one.body_parts else one.named
        return f"{self.name} {verb} {listed([FRONTAL_CHEST_FILMS, *told])}"


def listed(words: Iterable[str]) -> str:
    """ "a, b and c", each once."""
    *but_last, last = dict.fromkeys(words)
    return f"{', '.join(but_last)}{' and ' if but_last else ''}{last}"


FILMS_ALONE = StudyReader("this model")
