"""What one instance is, whole: kind, body part, side, view and intent, and which header field said so.

The class comes before Modality, codes before defined terms before words. What a header does not say stays empty.
"""

from dataclasses import dataclass

from pipeline.accepts import Kind
from pipeline.images.body_parts import NamedPart, body_part_of
from pipeline.images.choose import FOR_PROCESSING, view_of
from pipeline.images.headers import Elements, decided_by, items, text, texts
from pipeline.images.kinds import SECONDARY_CAPTURE, in_words, kind_of, modality_of
from pipeline.study import LATERAL_VIEWS

PROCESSING, PRESENTATION, DERIVED, LOCALISER = "for processing", "for presentation", "derived", "localiser"
_MAMMOGRAPHIC = {
    "399162004": "CC", "399368009": "MLO", "399260004": "ML", "399352003": "LM", "399099002": "LMO",
    "399192008": "XCCL", "399101009": "XCCM", "399196006": "FB", "399188001": "SIO", "441555000": "ISO",
    "R-10242": "CC", "R-10226": "MLO", "R-10224": "ML", "R-10228": "LM",
}  # fmt: skip
"""Views of PS3.16 CID 4014 as View Position has them (PS3.3 C.8.11.7.1.2)."""
_SIDES = {"L": "left", "R": "right", "B": "left and right", "U": ""}
_SIDE_CODES = {
    "7771000": "L", "24028007": "R", "51440002": "B", "G-A101": "L", "G-A100": "R", "G-A102": "B",
}  # fmt: skip
"""PS3.16 CID 244, and the SRT identifiers that it replaced."""
_PART_IN_THE_WORDS = frozenset({Kind.MAMMOGRAM, Kind.TOMOSYNTHESIS, Kind.OPHTHALMIC, Kind.OCT, Kind.SLIDE})
"""Kinds whose name says what part is shown."""


@dataclass(frozen=True, slots=True)
class Laterality:
    """Laterality as Image Laterality has it (L, R, B, U, "" unknown), and the attribute that said so."""

    letter: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """What an instance is. ``sources`` names for each thing that is known the attribute, or the rule, that said it.

    ``words`` are those of its kind ("a CT"); ``view`` is PA, AP, LL, RL, lateral, other, CC, MLO, ... or "".
    """

    kind: Kind
    words: str
    modality: str
    part: NamedPart | None
    side: Laterality
    view: str
    intent: str
    sources: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """As a radiographer says it: "a CT of the head", "a lateral radiograph of the left hand"."""
        side = _SIDES.get(self.side.letter, "")
        if self.kind in _PART_IN_THE_WORDS:
            return f"{self.words} ({side})" if side else self.words
        words = self.words
        if self.kind is Kind.FILM and self.view in (*LATERAL_VIEWS, "lateral"):
            words = words.replace("a radiograph", "a lateral radiograph")
        if self.part is None or self.kind in (Kind.RESULT, Kind.UNKNOWN):
            return words
        what, capture, _ = words.partition(" as a secondary capture")
        return f"{what} of the {f'{side} ' if side else ''}{self.part.part.name}{capture}"


def identify(dataset: Elements) -> InstanceIdentity:
    """What the instance is, by its header and by what a site's rule has put in its place."""
    kind, part, side = kind_of(dataset), body_part_of(dataset), side_of(dataset)
    view, view_source = _view(dataset, kind)
    intent, intent_source = _intent(dataset)
    sop_class = text(dataset, "SOPClassUID")
    by_class = bool(sop_class) and not f"{sop_class}.".startswith(f"{SECONDARY_CAPTURE}.")
    said = {
        "kind": "SOPClassUID" if by_class else "Modality",
        "modality": "Modality",
        "body part": part.source if part else "",
        "side": side.source,
        "view": view_source,
        "intent": intent_source,
    }
    sources = tuple((what, decided_by(dataset, field) or field) for what, field in said.items() if field)
    return InstanceIdentity(kind, in_words(dataset), modality_of(dataset), part, side, view, intent, sources)


def side_of(dataset: Elements) -> Laterality:
    """Laterality: of the image, of the region's modifier, of the frames, of the series (PS3.3 C.7.6.16.2.8)."""
    if (letter := text(dataset, "ImageLaterality").upper()) in _SIDES:
        return Laterality(letter, "ImageLaterality")
    for region in items(dataset, "AnatomicRegionSequence"):
        for modifier in items(region, "AnatomicRegionModifierSequence"):
            if letter := _SIDE_CODES.get(text(modifier, "CodeValue"), ""):
                return Laterality(letter, "AnatomicRegionModifierSequence")
    for group in items(dataset, "SharedFunctionalGroupsSequence"):
        for anatomy in items(group, "FrameAnatomySequence"):
            if (letter := text(anatomy, "FrameLaterality").upper()) in _SIDES:
                return Laterality(letter, "FrameAnatomySequence")
    if (letter := text(dataset, "Laterality").upper()) in _SIDES:
        return Laterality(letter, "Laterality")
    return Laterality()


def _view(dataset: Elements, kind: Kind) -> tuple[str, str]:
    """The view, and the attribute that says so; of a mammogram by its own codes."""
    if kind in (Kind.MAMMOGRAM, Kind.TOMOSYNTHESIS):
        for item in items(dataset, "ViewCodeSequence"):
            if view := _MAMMOGRAPHIC.get(text(item, "CodeValue"), ""):
                return view, "ViewCodeSequence"
        position = text(dataset, "ViewPosition").upper()
        return (position, "ViewPosition") if position in _MAMMOGRAPHIC.values() else ("", "")
    if kind is not Kind.FILM:
        return "", ""
    view = view_of(dataset)
    said = ("ViewCodeSequence", "ViewPosition", "PatientOrientation")
    source = next((one for one in said if items(dataset, one) or text(dataset, one)), "SeriesDescription")
    return view, source if view else ""


def _intent(dataset: Elements) -> tuple[str, str]:
    if text(dataset, "SOPClassUID") in FOR_PROCESSING:
        return PROCESSING, "SOPClassUID"
    if asked := text(dataset, "PresentationIntentType").upper():
        return (PROCESSING if asked == "FOR PROCESSING" else PRESENTATION), "PresentationIntentType"
    kinds = [one.upper() for one in texts(dataset, "ImageType")]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        return LOCALISER, "ImageType"
    return (DERIVED, "ImageType") if kinds[:1] == ["DERIVED"] else ("", "")
