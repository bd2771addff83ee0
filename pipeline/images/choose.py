"""Which instances are chest radiographs for the model, by their headers alone; the rest with the reason.

The body part is believed where the header's own fields agree; a film whose body part is unknown or
contradicted is left out, never guessed (a hand labelled CHEST by a machine's default is common).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.accepts import MODALITIES
from pipeline.images import wording
from pipeline.images.clock import read_time
from pipeline.images.headers import Elements, Header, decided_by, integer, items, numbers, text, texts
from pipeline.images.kinds import SECONDARY_CAPTURE, in_words
from pipeline.images.trust import DIGITISED, HEADERS_ALONE, SiteTrust, remark
from pipeline.images.wording import BodyRegion
from pipeline.study import LATERAL_VIEWS, TAKEN_AS_FRONTAL, LeftOutReason, Remark, View

RADIOGRAPHY = frozenset({"CR", "DX", "DR", "RG"})
"""DR is no DICOM term, but machines write it."""
CR_IMAGE, DX_PRESENTATION, DX_PROCESSING = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
)
FOR_PROCESSING = frozenset(
    {
        DX_PROCESSING, "1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.1.3.1",
        "1.2.840.10008.5.1.4.1.1.13.1.5", "1.2.840.10008.5.1.4.1.1.14.2",
    }
)  # fmt: skip
"""Raw images of digital radiography, mammography, dental radiography, tomosynthesis and OCT of vessels."""
_NEAR_FIELDS = (
    "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription", "RequestedProcedureDescription",
)  # fmt: skip

_PROCESSED_FIELDS = ("SeriesDescription", "DerivationDescription", "AcquisitionDeviceProcessingDescription")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an instance is left out: a LeftOutReason or the code of an error, and a sentence free of patient data."""

    code: str
    message: str


ENOUGH = Reason(LeftOutReason.OVER_LIMIT, "enough pictures of this study are used")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A radiograph the model may see; ``view`` is PA, AP, LL, RL or "" where the header does not say.

    ``trusted`` says what of it rests on the site's word (``SiteTrust``).
    """

    header: Header
    view: str
    trusted: tuple[Remark, ...] = ()

    @property
    def secondary(self) -> bool:
        """Whether it was made from another image (Image Type value 2)."""
        return texts(self.header.dataset, "ImageType")[1:2] == ("SECONDARY",)

    @property
    def taken(self) -> str:
        """When the film was acquired to the second, as YYYYMMDDHHMMSS, or HHMMSS where no day is said; "" unknown."""
        dataset = self.header.dataset
        moment = text(dataset, "AcquisitionDateTime")
        day, clock = moment[:8], read_time(moment[8:].partition("+")[0].partition("-")[0])
        if clock is None:
            day, clock = text(dataset, "AcquisitionDate"), read_time(text(dataset, "AcquisitionTime"))
        return f"{day}{clock:%H%M%S}" if clock else ""

    @property
    def exposure(self) -> tuple[str, ...] | None:
        """What two renderings of one exposure share, or None where the header does not time it."""
        dataset, taken = self.header.dataset, self.taken
        if not taken:
            return None
        size = numbers(dataset, "Rows") + numbers(dataset, "Columns")
        return (taken[-6:], self.view, text(dataset, "DetectorID"), *(str(side) for side in size))

    @property
    def area(self) -> int:
        """Pixels of a frame, 0 where the header does not say."""
        return (integer(self.header.dataset, "Rows") or 0) * (integer(self.header.dataset, "Columns") or 0)

    @property
    def lateral(self) -> bool:
        """Whether it is a lateral film, a companion of a frontal one."""
        return self.view in LATERAL_VIEWS

    @property
    def order(self) -> tuple[bool, bool, int, int, int, str]:
        """Frontal before lateral; primary before secondary; PA, then AP, then unknown; larger; then as numbered."""
        dataset = self.header.dataset
        return (
            self.lateral,
            self.secondary,
            (*TAKEN_AS_FRONTAL, *LATERAL_VIEWS).index(self.view),
            -self.area,
            integer(dataset, "InstanceNumber") or 0,
            text(dataset, "SOPInstanceUID"),
        )


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """In the ``order`` of candidates, but of whole films of one view the later first.

    A film of a view that was taken again is taken again because the first did not show enough, or because something
    has changed since. A detail, smaller by a fifth than the largest of its view, stays behind the whole films.
    """
    largest: dict[tuple[str, bool], int] = {}
    for one in candidates:
        key = (one.view, one.secondary)
        largest[key] = max(largest.get(key, 0), one.area)

    def place(one: Candidate) -> tuple[object, ...]:
        detail = one.area * 5 < largest[one.view, one.secondary] * 4
        later = -int(one.taken.rjust(14, "0")) if one.taken.isascii() and one.taken.isdecimal() else 0
        return (*one.order[:3], detail, later, *one.order[3:])

    return sorted(candidates, key=place)


PROCESSED = Reason(LeftOutReason.PROCESSED_IMAGE, "a processed or auxiliary picture, not the film itself")
_UNKNOWN_PART = Reason(LeftOutReason.BODY_PART_UNKNOWN, "the header does not say that this is a chest")
LATERAL_NOT_USED = Reason(LeftOutReason.LATERAL_VIEW, "lateral view not used by this model")


def judge(header: Header, *, laterals: bool = False, trust: SiteTrust = HEADERS_ALONE) -> Candidate | Reason:
    """One instance by itself; ``laterals`` admits lateral films, one whose side is not said as a left lateral."""
    dataset = header.dataset
    trusted: list[Remark] = []
    reason = _not_radiograph(dataset, trust, trusted)
    if reason is None:
        reason = _not_chest(dataset)
        if reason is _UNKNOWN_PART and trust.fills_body_part(dataset, _described(dataset)):
            trusted.append(remark(f"the body part is {trust.missing_body_part}"))
            reason = None
    if reason is not None:
        return reason
    view = view_of(dataset)
    if not view and trust.fills_view(dataset, _described(dataset)):
        view = trust.missing_view
        trusted.append(remark(f"the view is {view}"))
    if view in (*LATERAL_VIEWS, wording.LATERAL):
        lateral = view if view in LATERAL_VIEWS else View.LL
        return Candidate(header, lateral, tuple(trusted)) if laterals else LATERAL_NOT_USED
    if view not in TAKEN_AS_FRONTAL:
        return Reason(LeftOutReason.OTHER_VIEW, "a view that is neither PA nor AP is not used by this model")
    return Candidate(header, view, tuple(trusted))


def view_of(dataset: Elements) -> str:
    """PA, AP, LL, RL, lateral, other or "": by code, View Position, Patient Orientation, descriptions."""
    for item in items(dataset, "ViewCodeSequence"):
        view = wording.view_of_code(text(item, "CodeValue"), text(item, "CodeMeaning"))
        if view:
            return view
    view = wording.view_of(text(dataset, "ViewPosition"))
    if view:
        return view
    across = texts(dataset, "PatientOrientation")[:1]
    if across and across[0][:1] in ("A", "P"):
        return wording.LATERAL
    for keyword in _NEAR_FIELDS:
        view = wording.view_of(text(dataset, keyword))
        if view:
            return view
    return ""


def refuse_unpresentable(dataset: Elements) -> Reason | None:
    """Why an instance is no picture to look at, whatever its kind; None where it is one."""
    if (
        text(dataset, "SOPClassUID") in FOR_PROCESSING
        or text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING"
    ):
        return Reason(LeftOutReason.FOR_PROCESSING, "raw detector image, not for presentation")
    if {kind.upper() for kind in texts(dataset, "ImageType")} & {"LOCALIZER", "SCREEN SAVE", "DOSE_INFO"}:
        return PROCESSED
    if text(dataset, "QualityControlImage").upper() == "YES":  # PS3.3 C.7.6.1: no patient is shown
        return Reason(LeftOutReason.PROCESSED_IMAGE, "a picture for quality control, of no patient")
    return None


def _described(dataset: Elements) -> tuple[str, ...]:
    """The texts of a header that may name a body part or a view."""
    return tuple(text(dataset, keyword) for keyword in (*_NEAR_FIELDS, "StudyDescription"))


def _not_radiograph(dataset: Elements, trust: SiteTrust, trusted: list[Remark]) -> Reason | None:
    sop_class, modality = text(dataset, "SOPClassUID"), text(dataset, "Modality").upper()
    if sop_class in (CR_IMAGE, DX_PRESENTATION) and (modality == "OT" or modality not in MODALITIES):
        modality = "DX"  # emptied by a de-identification, or a word of the machine's; the class says as much
    unpresentable = refuse_unpresentable(dataset)
    if unpresentable is not None and unpresentable.code == LeftOutReason.FOR_PROCESSING:
        return unpresentable
    if modality not in RADIOGRAPHY:
        return Reason(LeftOutReason.NOT_RADIOGRAPH, f"{in_words(dataset)}, no projection radiograph")
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(SECONDARY_CAPTURE + "."):
        conversion = text(dataset, "ConversionType").upper()
        if trust.takes_as_film(conversion):
            trusted.append(remark(f"a secondary capture (conversion type {conversion}) is a film"))
        elif conversion not in DIGITISED:
            return Reason(LeftOutReason.SECONDARY_CAPTURE, "a secondary capture that is not a digitised film")
    elif sop_class not in (CR_IMAGE, DX_PRESENTATION):
        return Reason(LeftOutReason.NOT_RADIOGRAPH, f"{in_words(dataset)}, no CR or DX image (SOP Class)")
    kinds = {kind.upper() for kind in texts(dataset, "ImageType")}
    said = [text(dataset, keyword) for keyword in _PROCESSED_FIELDS]
    return PROCESSED if any(map(wording.is_processed, (*said, *kinds))) else unpresentable


def _not_chest(dataset: Elements) -> Reason | None:
    if decided_by(dataset, "BodyPartExamined"):
        chest = _declared_region(dataset) is BodyRegion.CHEST
        return None if chest else Reason(LeftOutReason.NOT_CHEST, "another body part")
    declared = _declared_region(dataset)
    near = {wording.region_of(text(dataset, keyword)) for keyword in _NEAR_FIELDS} - {BodyRegion.UNKNOWN}
    study = wording.region_of(text(dataset, "StudyDescription"))
    if declared is BodyRegion.OTHER or near == {BodyRegion.OTHER}:
        if BodyRegion.CHEST in ({declared} | near):
            return Reason(
                LeftOutReason.BODY_PART_CONTRADICTED, "the header names the chest and another body part"
            )
        return Reason(LeftOutReason.NOT_CHEST, "another body part")
    if len(near) == 2 or (study is BodyRegion.OTHER and BodyRegion.CHEST not in near):
        contradicted = declared is BodyRegion.CHEST or len(near) == 2
        return (
            Reason(LeftOutReason.BODY_PART_CONTRADICTED, "the header names the chest and another body part")
            if contradicted
            else Reason(LeftOutReason.NOT_CHEST, "another body part")
        )
    if BodyRegion.CHEST not in ({declared, study} | near):
        return _UNKNOWN_PART
    return None


def _declared_region(dataset: Elements) -> BodyRegion:
    """Anatomic BodyRegion Sequence, else Body Part Examined."""
    for item in items(dataset, "AnatomicRegionSequence"):
        if text(item, "CodeValue") in wording.CHEST_CODES:
            return BodyRegion.CHEST
        region = wording.region_of(text(item, "CodeMeaning"))
        if region is not BodyRegion.UNKNOWN:
            return region
    return wording.region_of(text(dataset, "BodyPartExamined"))
