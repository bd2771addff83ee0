"""Model families: adapters over one interface, images and a request in, an answer out.

A family owns its preprocessing, prompts, token formats and coordinate convention. Whatever that is, a region
leaves it in pixels of the original image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.report import Language, Region, Side
from pipeline.study import ImageSet, InstanceRef


class Task(StrEnum):
    """What a family can be asked for."""

    REPORT = "report"
    FINDINGS = "findings"
    IMPRESSION = "impression"
    GROUNDED_REPORT = "grounded_report"
    VQA = "vqa"
    CLASSIFY = "classify"
    DETECT = "detect"
    IDENTIFY = "identify"
    LANDMARK = "landmark"
    SUMMARIZE = "summarize"
    STRUCTURED = "structured"
    TEXT_QA = "text_qa"


@dataclass(frozen=True, slots=True)
class Request:
    """One question about a study: ``question`` for vqa and text, ``region`` for identify."""

    task: Task = Task.REPORT
    language: Language = Language.ENGLISH
    question: str = ""
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class SeenImage:
    """One image as the model saw it: where it came from and the size that regions are expressed in."""

    ref: InstanceRef
    frame: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Features:
    """What the encoder gave for one study: a family's own arrays by name, first axis the images."""

    images: tuple[SeenImage, ...]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class SeenFinding:
    """What a family's own detector says of one kind on one side: probability 0..1, and where, if it can tell."""

    kind: str
    side: Side | None
    probability: float
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``truncated`` when the text reached its limit; ``seen`` and ``probabilities`` are
    independent of it.
    """

    text: str
    truncated: bool
    seen: tuple[SeenFinding, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)


class Family(Protocol):
    """A loaded model. Instances are context managers; every method may be called from several threads."""

    model_id: str
    model_version: str
    tasks: frozenset[Task]
    languages: frozenset[Language]
    runner: str
    parts: dict[str, str]
    """Digests and versions of all that shapes an answer, for the recipe."""

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The study's images as the encoder takes them, first axis the images. Raises SkipStudy where it has none."""
        ...

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """Features of each study, in order, in one batch. Raises SkipStudy for a study the family cannot see."""
        ...

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """One answer per features and request, pairwise, written in one batch.

        Raises ConfigurationError for a task or language that the family does not have.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
