"""The draft: findings, impression, regions, checks and provenance. Values only.

A ``DraftReport`` is what our models wrote and no person has read; it is never a final report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pipeline.study import InstanceRef


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
class Finding:
    """One statement of Findings about one thing.

    ``kind`` is a key of the findings vocabulary (``pleural_effusion``, ...); ``present`` is False for a stated absence.
    ``zone`` is "upper", "mid", "lower" or ""; ``severity`` is the word used ("small", "moderate", "marked", ...) or "".
    ``confidence`` is the model's own probability 0..1 where it means something, else None. ``sentence`` is the
    text of the
    draft that states it.
    """

    kind: str
    present: bool
    side: Side | None = None
    zone: str = ""
    severity: str = ""
    sentence: str = ""
    region: Region | None = None
    confidence: float | None = None


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

    ``runner`` names what really ran the encoder ("tensorrt", "onnxruntime-cuda", "onnxruntime-cpu", "torch");
    ``parts`` holds the digests and versions that the recipe was made of.
    """

    model_id: str
    model_version: str
    recipe: str
    runner: str
    started: datetime
    finished: datetime
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DraftReport:
    """One study's draft as the model wrote it and our parser read it.

    ``findings_text`` and ``impression_text`` are the two sections. ``findings`` are what the text states
    (present and absent).
    ``probabilities`` are the classifier's own per kind, 0..1, independent of the text. ``images`` are the instances
    the model saw.
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
