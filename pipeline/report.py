"""The draft: findings, impression, regions, checks and provenance. Values only.

A ``DraftReport`` is what our models wrote and no person has read; it is never a final report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.study import Code, InstanceRef

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Language(StrEnum):
    """Languages a draft may be written in (BCP 47)."""

    ENGLISH = "en"
    CHINESE = "zh"


class Side(StrEnum):
    """The patient's own side."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


@dataclass(frozen=True, slots=True)
class Region:
    """A box in pixels of the original stored image: x to the right, y down, ``x0 < x1 <= columns``, ``y0 < y1 <=
    rows``.
    """

    ref: InstanceRef
    frame: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Extent:
    """A box through planes of one series, in pixels of the stored planes as in ``Region``.

    ``planes`` are those that the model was shown of it, each an instance and its frame (from 0), in their order; what
    lies between two of them was not seen.
    """

    planes: tuple[tuple[InstanceRef, int], ...]
    x0: float
    y0: float
    x1: float
    y1: float

    def on_planes(self) -> tuple[Region, ...]:
        """The box on each plane."""
        return tuple(Region(ref, frame, self.x0, self.y0, self.x1, self.y1) for ref, frame in self.planes)


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of Findings about one thing.

    ``kind`` is a key of the findings vocabulary (``pleural_effusion``, ...); ``present`` is False for a stated absence.
    ``zone`` is "upper", "mid", "lower" or ""; ``severity`` is the word used ("small", "moderate", "marked", ...) or "".
    ``confidence`` is the model's own probability 0..1 where it means something, else None. ``sentence`` is the text of
    the draft that states it.
    """

    kind: str
    present: bool
    side: Side | None = None
    zone: str = ""
    severity: str = ""
    sentence: str = ""
    region: Region | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A point in pixels of the original stored image: x to the right, y down, inside the image."""

    ref: InstanceRef
    frame: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Label:
    """One class a model chose or scored: ``name`` is the site's own word; ``probability`` 0..1, None where it has
    none."""

    name: str
    chosen: bool
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a named thing is: a region, a point (landmark) or an extent; all None where it was said to be absent.

    ``text`` is what the model said of it (grounded reports), or "".
    """

    name: str
    region: Region | None = None
    point: Point | None = None
    confidence: float | None = None
    text: str = ""
    extent: Extent | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One structure of a segmentation: ``number`` is its label in the mask, ``name`` what people call it.

    ``volume_ml`` is 0 and ``voxels`` is 0 where the model found none of it. ``label`` is the model's own name. ``code``
    is None where no checked one is known; ``side`` is not part of it.
    """

    number: int
    name: str
    volume_ml: float
    voxels: int
    label: str = ""
    code: Code | None = None
    side: Side | None = None


OUTLINES = (
    "#e64b35",
    "#4dbbd5",
    "#00c878",
    "#f0b428",
    "#a078ff",
    "#f582be",
    "#91d1c2",
    "#ffff5a",
    "#c49a6c",
    "#78aaff",
)


def outline_colour(number: int) -> str:
    """How the outline of the segment that is numbered so (from 1) is drawn: "#rrggbb"."""
    return OUTLINES[(number - 1) % len(OUTLINES)]


@dataclass(frozen=True, slots=True)
class MaskRef:
    """Where the voxels of an answer's segments are kept: an instance of ours; Segment.number is the Segment Number
    (0062,0004) there.
    """

    ref: InstanceRef
    sop_class_uid: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The machine's answer to one further task of a study, beside the report.

    ``task`` is the name of a ``models.family.Task``; ``question`` is what the site asked, in its own words (a VQA
    question, the thing to find, the classes joined by "; "), "" where the task has none. ``text`` is the answer as
    written; ``structured`` is JSON text that is valid under the schema asked for.
    """

    task: str
    language: Language
    question: str
    text: str
    labels: tuple[Label, ...] = ()
    places: tuple[Place, ...] = ()
    structured: str = ""
    truncated: bool = False
    schema_digest: str = ""
    """SHA-256 (hex) of the JSON Schema text that ``structured`` is valid under, or ""."""
    model_id: str = ""
    """The family that answered, where it is not the one that drafted the report."""
    reasoning: str = ""
    """What the model thought in words before it answered: kept here, and in no resource, page or message."""
    segments: tuple[Segment, ...] = ()
    mask: "NDArray[np.integer] | None" = field(default=None, compare=False, repr=False)
    """Labels [planes, rows, columns] on the volume's grid, until they are written as an instance; never stored here."""
    mask_ref: MaskRef | None = None


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """The earlier study of the same patient whose image the model was given; ``study_date`` as the headers have it."""

    study_instance_uid: str
    study_date: date | None = None


@dataclass(frozen=True, slots=True)
class Support:
    """What one sentence of a draft rests on: an image with a region or without, or text the model was given.

    ``section`` is "findings" or "impression"; ``source`` is "" for an image, else the name of the input text
    ("findings", "indication", "prior_report").
    """

    section: str
    sentence: str
    image: InstanceRef | None = None
    region: Region | None = None
    source: str = ""


class Verdict(StrEnum):
    """The outcome of one check: ``failed`` on a hard check keeps the draft from being stored as a report."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check's verdict on a draft; ``message`` is shown to the reader and holds no identifiers."""

    check: str
    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the draft. ``recipe`` is the digest over weights, engine manifest, prompts, schema and code version.

    ``runner`` names what really ran the encoder ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-cpu",
    "openvino-cpu", "torch"); ``parts`` holds the digests and versions that the recipe was made of. ``reasoning`` is
    what a model thought in words before it wrote the "report" or the "impression": kept here, and in no resource, page
    or message.
    """

    model_id: str
    model_version: str
    recipe: str
    runner: str
    started: datetime
    finished: datetime
    parts: Mapping[str, str] = field(default_factory=dict)
    reasoning: Mapping[str, str] = field(default_factory=dict)


class ImpressionSource(StrEnum):
    """Where the Impression of a draft comes from."""

    REPORT = "report"
    """The drafting model wrote it with its Findings, looking at the images."""
    SUMMARY = "summary"
    """A model wrote it from the text of the Findings alone."""
    UNWRITTEN = "unwritten"
    """No Impression was written: the draft is Findings only, and says so."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a picture of the review page shows: a frame (from 0) and words without patient data."""

    ref: InstanceRef
    frame: int
    words: str


@dataclass(frozen=True, slots=True)
class DraftReport:
    """One study's draft as the model wrote it and our parser read it.

    ``findings_text`` and ``impression_text`` are the two sections; the second is "" where ``impression_source`` is
    UNWRITTEN, and ``impression_model`` wrote it where that is not the drafting one. ``findings`` are what the text
    states (present and absent). ``probabilities`` are the classifier's own per kind, 0..1, independent of the text.
    ``images`` are the instances the model saw. ``answers`` are those to the site's further tasks; ``supports`` says per
    sentence what it rests on. ``remarks`` are warnings that arose while drafting, such as a task that this study could
    not be asked; ``prior`` is the earlier study that was given for comparison. ``captions`` are those of the pictures
    that people are shown.
    """

    study_instance_uid: str
    language: Language
    findings_text: str
    impression_text: str
    findings: tuple[Finding, ...]
    probabilities: Mapping[str, float]
    images: tuple[InstanceRef, ...]
    provenance: Provenance
    truncated: bool = False
    answers: tuple[TaskAnswer, ...] = ()
    supports: tuple[Support, ...] = ()
    remarks: tuple[CheckOutcome, ...] = ()
    prior: PriorStudy | None = None
    impression_source: ImpressionSource = ImpressionSource.REPORT
    impression_model: str = ""
    captions: tuple[Caption, ...] = ()

    @property
    def marked(self) -> tuple[tuple[InstanceRef, int], ...]:
        """The frames on which findings, answers and supports lie, each once, in this order."""
        where: list[Region | Point | Extent | None] = [one.region for one in self.findings if one.present]
        where += [one.region or one.point or one.extent for answer in self.answers for one in answer.places]
        where += [one.region for one in self.supports]
        flat = [at for one in where if one for at in (one.on_planes() if isinstance(one, Extent) else (one,))]
        return tuple(dict.fromkeys((at.ref, at.frame) for at in flat))
