"""Values of a study on its way: references, instances, the study, its image set.

Standard library only (arrays by the names of their types: most commands see none). References are identifiers: outside
the patient-data boundary a study is named by its ledger id (docs/design.md#patient-data).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_Number = TypeVar("_Number", int, float)


class View(StrEnum):
    """View Position of a film of the chest (0018,5101), or what a coded view says instead (PS3.16 CID 4010)."""

    UNKNOWN = ""
    PA = "PA"
    AP = "AP"
    LL = "LL"
    """Left lateral."""
    RL = "RL"
    """Right lateral."""


FRONTAL_VIEWS = (View.PA, View.AP)
TAKEN_AS_FRONTAL = (*FRONTAL_VIEWS, View.UNKNOWN)
"""Views that are shown to a model as frontal: a chest film whose headers say no view mostly is one."""
LATERAL_VIEWS = (View.LL, View.RL)


@dataclass(frozen=True, slots=True, order=True)
class InstanceRef:
    """The three UIDs of one SOP Instance."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What to look for in an archive.

    ``since`` and ``until`` are StudyDate bounds, both inclusive; ``study_instance_uids``, where given, names the
    studies and overrides the dates. ``modalities`` filters by ModalitiesInStudy; empty means any. ``patient_id`` is
    matched with PatientID, whoever issued it: a caller looks at the headers too. ``undated`` asks for the studies that
    have no StudyDate, which no range finds (PS3.4 C.2.2.2.5), and overrides the dates.
    """

    since: date | None = None
    until: date | None = None
    study_instance_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    patient_id: str = ""
    undated: bool = False


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One study as the archive's study-level answer described it.

    ``demographics_digest`` is a SHA-256 over PatientID, IssuerOfPatientID, PatientName, PatientBirthDate, PatientSex,
    AccessionNumber, StudyDate and StudyTime as announced, so that a correction is noticed without keeping the
    values. ``announced_instances`` is None where the archive does not count (dcmqrscp, pynetdicom's qrscp).
    ``patients`` counts the patients that the archive lists the study under: more than one, and nobody knows whose it
    is.
    """

    study_instance_uid: str
    study_date: date | None
    modalities: tuple[str, ...]
    accession_number: str
    announced_instances: int | None
    demographics_digest: str
    patients: int = 1


@dataclass(frozen=True, slots=True)
class AnnouncedInstance:
    """One instance as the archive's image-level answer named it; ``sop_class_uid`` is empty where it did not say."""

    ref: InstanceRef
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True)
class UnfetchedInstance:
    """An announced instance that stays in the archive: its SOP Class or its series says that nobody here reads it.

    ``modality`` is told by the class ("OT" where that tells none), ``why`` says it in words, free of patient data.
    """

    ref: InstanceRef
    sop_class_uid: str
    modality: str
    why: str


@dataclass(frozen=True, slots=True)
class HeldInstance:
    """One instance on local disk, as stored (never re-encoded).

    ``sha256`` is over the bytes of the file's data set (after the file meta group, PS3.10 section 7.1), so that the
    same instance brought by C-MOVE and by WADO-RS in the same transfer syntax has the same digest. ``size`` is the
    file's size in bytes.
    """

    ref: InstanceRef
    path: Path
    sha256: str
    size: int
    sop_class_uid: str
    transfer_syntax_uid: str
    lenience: tuple[str, ...] = ()
    """What of the file was read although it is not as the standard says: codes, a remark each."""


@dataclass(frozen=True, slots=True)
class DamagedInstance:
    """Something the archive sent for this study that is not a usable DICOM file; kept out, never dropped silently.

    ``code`` and ``message`` are free of patient data; ``sop_instance_uid`` is empty where it could not be read.
    """

    sop_instance_uid: str
    code: str
    message: str


UNMENDABLE = frozenset(
    {
        "not-dicom", "no-file-meta", "malformed-meta", "no-transfer-syntax", "transfer-syntax-mismatch", "no-dataset",
        "malformed-dataset", "missing-uid", "too-large", "wrong-study", "wrong-instance", "duplicate-conflict",
        "two-patients",
    }
)  # fmt: skip
"""Codes of damage that the archive would send again; a cut file may come whole the next time."""


@dataclass(frozen=True, slots=True)
class FetchedStudy:
    """What fetching brought: instances announced against instances held, by UID (docs/design.md#the-ledger)."""

    study_instance_uid: str
    announced: tuple[AnnouncedInstance, ...]
    held: tuple[HeldInstance, ...]
    damaged: tuple[DamagedInstance, ...]
    folder: Path
    unfetched: tuple[UnfetchedInstance, ...] = ()
    """Announced and not asked for: no part of a gap."""

    @property
    def missing(self) -> tuple[str, ...]:
        """SOP Instance UIDs announced, asked for and not held, sorted."""
        held = {one.ref.sop_instance_uid for one in self.held}
        held |= {one.ref.sop_instance_uid for one in self.unfetched}
        return tuple(
            sorted(a.ref.sop_instance_uid for a in self.announced if a.ref.sop_instance_uid not in held)
        )

    @property
    def awaited(self) -> tuple[str, ...]:
        """Of the missing ones those that another attempt may bring: not those that came and can never be used."""
        never = {one.sop_instance_uid for one in self.damaged if one.code in UNMENDABLE}
        return tuple(uid for uid in self.missing if uid not in never)

    @property
    def complete(self) -> bool:
        """True when every instance is held that was announced and asked for."""
        return not self.missing

    @property
    def manifest_digest(self) -> str:
        """SHA-256 over the sorted SOP Instance UIDs and data set hashes that are held."""
        return digest_lines(f"{h.ref.sop_instance_uid} {h.sha256}" for h in self.held)


def announced_digest(announced: Iterable[AnnouncedInstance]) -> str:
    """SHA-256 over the sorted announced SOP Instance UIDs."""
    return digest_lines(a.ref.sop_instance_uid for a in announced)


def digest_lines(lines: Iterable[str]) -> str:
    """SHA-256 (hex) over the sorted lines, each ended by a newline."""
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode("utf-8", "surrogateescape"))
        digest.update(b"\n")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value as DICOM and FHIR carry it: scheme designator or system URI, value, meaning."""

    scheme: str
    value: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a study that the reader of its report should know; free of patient data."""

    code: str
    message: str


class LeftOutReason(StrEnum):
    """Why an instance that can be read was not shown to the model; the one nearest to a usable film first.

    A study of which nothing is used is skipped by the first of its reasons in this order.
    """

    LATERAL_VIEW = "lateral-view"
    OTHER_VIEW = "other-view"
    OVER_LIMIT = "over-limit"
    SAME_EXPOSURE = "same-exposure"
    REJECTED = "rejected"
    SECONDARY_IMAGE = "secondary-image"
    PROCESSED_IMAGE = "processed-image"
    FOR_PROCESSING = "for-processing"
    BODY_PART_CONTRADICTED = "body-part-contradicted"
    BODY_PART_UNKNOWN = "body-part-unknown"
    NOT_CHEST = "not-chest"
    SECONDARY_CAPTURE = "secondary-capture"
    NOT_RADIOGRAPH = "not-radiograph"
    MISSING_PLANES = "missing-planes"
    IRREGULAR_VOLUME = "irregular-volume"
    SEVERAL_AT_ONE_PLACE = "several-at-one-place"
    NO_POSITION = "no-position"
    NO_SPACING = "no-spacing"
    MOSAIC = "mosaic"
    DUPLICATE_PLANE = "duplicate-plane"
    OTHER_SERIES = "other-series"
    TOO_FEW_PLANES = "too-few-planes"
    NO_SUV = "no-suv"
    SLIDE_LABEL = "slide-label"
    COLOUR_SLICE = "colour-slice"
    NOT_A_PLANE = "not-a-plane"
    NOT_ACCEPTED = "not-accepted"
    NOT_ACCEPTED_BODY_PART = "not-accepted-body-part"
    NOT_ACCEPTED_VIEW = "not-accepted-view"
    NOT_ACCEPTED_PLANES = "not-accepted-planes"
    SITE_RULE = "site-rule"
    NOT_RETRIEVED = "not-retrieved"


TOLD_ON_THE_REPORT = frozenset(
    {
        LeftOutReason.OVER_LIMIT,
        LeftOutReason.REJECTED,
        LeftOutReason.MISSING_PLANES,
        LeftOutReason.IRREGULAR_VOLUME,
        LeftOutReason.SEVERAL_AT_ONE_PLACE,
        LeftOutReason.NO_POSITION,
        LeftOutReason.NO_SPACING,
        LeftOutReason.MOSAIC,
    }
)
"""Instances that were meant for the model: the draft may not tell all that the study shows, and says so."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One instance that was not used for the draft, and why; free of patient data but for the UID.

    ``code`` is a LeftOutReason, or says what is wrong with the file or its pixels.
    """

    sop_instance_uid: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """How a picture is shown otherwise than it is stored: its diagonal first, then its columns, then its rows turned
    about.
    """

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    def of(self, film: "NDArray[Any]") -> "NDArray[Any]":
        """``film`` [rows, columns] as it is shown."""
        shown = film.T if self.transposed else film
        return shown[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]

    def sides(self, of_stored: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
        """A pair of (rows, columns) of the stored picture, their count or their spacing, as it is of the shown one."""
        return (of_stored[1], of_stored[0]) if self.transposed else of_stored

    def stored_box(
        self, box: tuple[float, float, float, float], rows: int, columns: int
    ) -> tuple[float, float, float, float]:
        """A box (x0, y0, x1, y1) of the shown picture, which has ``rows`` and ``columns``, in the stored one."""
        x0, y0, x1, y1 = box
        if self.mirrored:
            x0, x1 = columns - x1, columns - x0
        if self.upside_down:
            y0, y1 = rows - y1, rows - y0
        return (y0, x0, y1, x1) if self.transposed else (x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class StudyImage:
    """One decoded frame, ready for a model.

    ``pixels`` float32 [rows, columns] in 0..1, dense tissue bright (MONOCHROME2), or [rows, columns, 3] where a model
    asks for CT in three windows; at most the working size asked for, aspect ratio kept, upright: the patient's left at
    the viewer's right, the head on top, where the header says how it lies. ``original_rows``/``original_columns`` are
    those of the stored image, turned as it is shown (``turn``), after which regions are expressed;
    ``scale_x = columns / original_columns``; both are 0 of a picture made of many frames (a slide), on which no place
    can be named. ``spacing_mm`` is (row, column) spacing of the image as shown or None. ``view`` is one of "PA", "AP",
    "LL", "RL" or "" when unknown; ``frame`` counts from 0. ``burned_in`` says that the header tells of identifying text
    in the pixels (PS3.3 C.7.6.1.1.8). ``caption`` says to people what it is. ``smaller`` are the pixels at the sizes of
    further models that share the study, each made of the stored film. ``seconds`` is when a frame of a clip was taken,
    from its first, where the model reads so many a second and the header tells; else None.
    """

    ref: InstanceRef
    frame: int
    pixels: "NDArray[np.float32]"
    original_rows: int
    original_columns: int
    spacing_mm: tuple[float, float] | None
    modality: str
    body_part: str
    view: str
    photometric_interpretation: str
    turn: Turn = Turn()
    burned_in: bool = False
    caption: str = ""
    smaller: "tuple[NDArray[np.float32], ...]" = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class StudyVolume:
    """All planes of the stack that the images are of, for a model that asks for the whole of it.

    ``values`` [planes, rows, columns] int16 or float32 in the unit of the modality (CT in HU). ``affine`` leads from
    (plane, row, column, 1) to LPS in mm; ``planes`` say where each came from, frames counted from 0. ``sources`` is for
    ``pipeline.images`` alone, which writes results beside the planes.
    """

    values: "NDArray[np.int16] | NDArray[np.float32]"
    affine: "NDArray[np.float64]"
    planes: tuple[tuple[InstanceRef, int], ...]
    modality: str
    sources: object = None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images of one study that a model may see, and what was left out, with reasons.

    ``volume`` is the whole stack they were taken from, where a model asks for it. ``priors`` are images of an earlier
    study of the same patient, given for comparison; regions never lie on them.
    """

    study_instance_uid: str
    images: tuple[StudyImage, ...]
    left_out: tuple[LeftOut, ...] = ()
    priors: tuple[StudyImage, ...] = ()
    remarks: tuple[Remark, ...] = ()
    chest: bool = True
    """Whether the images are films of the chest, on which the checks of words, sides and views were measured."""
    volume: StudyVolume | None = None
