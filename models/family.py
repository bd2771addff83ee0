"""Model families: adapters over one interface, images and a request in, an answer out.

A family owns its preprocessing, prompts, token formats and coordinate convention. Whatever that is, a region
leaves it in pixels of the original image.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigurationError
from pipeline.report import Label, Language, Place, Region, Segment, Side
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
    SEGMENT = "segment"


class Sections(StrEnum):
    """What the text of a draft holds."""

    BOTH = "both"
    """Findings and Impression, each under its heading."""
    FINDINGS = "findings"
    """Findings; an Impression only where it stands under its own heading."""
    CAPTION = "caption"
    """A caption of the image, which becomes the Findings; else as FINDINGS."""


TEXT_TASKS = frozenset({Task.SUMMARIZE, Task.STRUCTURED, Task.TEXT_QA})
"""Tasks whose input is text: asked of a study, they read its report."""


@dataclass(frozen=True, slots=True)
class PromptContext:
    """What is known about the study beside its images, as text; "" where it is not.

    Never the report to be written, and nothing that names a person (``pipeline.identifier_removal``).
    """

    indication: str = ""
    technique: str = ""
    comparison: str = ""
    prior_report: str = ""

    def only(self, names: Collection[str]) -> "PromptContext":
        """The fields called ``names``; the others are ""."""
        return PromptContext(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True)
class Request:
    """One question about a study; the fields that a task does not name are ignored.

    vqa, text_qa     ``question``; ``options`` make it a closed question with one of them as its answer
    classify         ``labels`` to choose among; ``question`` may say of what
    detect, landmark, segment    ``target``, the thing to find, in the language of the request
    identify         ``region``
    summarize, structured, text_qa    ``text``; structured also ``schema``, a JSON Schema (2020-12) as text
    grounded_report  ``labels``, the organs or lesions to speak of, where the family asks for them

    ``variant`` names another wording that the family has for its task ("report-iu"); "" is the usual one.
    ``most_tokens`` ends a text early, for a trial; 0 leaves it to the family, as do families of texts that are short.
    """

    task: Task = Task.REPORT
    language: Language = Language.ENGLISH
    question: str = ""
    region: Region | None = None
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    target: str = ""
    text: str = ""
    schema: str = ""
    variant: str = ""
    context: PromptContext = field(default_factory=PromptContext)
    most_tokens: int = 0


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
    """One answer. ``truncated`` when the text reached its limit.

    ``text`` is what was written, without the family's own marks. ``labels``, ``places`` and ``structured`` are read
    from it by the family, in pixels of the original image. ``seen`` and ``probabilities`` are independent of it.
    ``reasoning`` is what the model thought in words before it: kept with the provenance, never part of a draft.
    """

    text: str
    truncated: bool
    seen: tuple[SeenFinding, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[Label, ...] = ()
    places: tuple[Place, ...] = ()
    structured: str = ""
    reasoning: str = ""
    segments: tuple[Segment, ...] = ()
    mask: NDArray[np.integer] | None = None
    """Labels [planes, rows, columns] on the grid of ``ImageSet.volume``; ``segments`` say what each is."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a family says of itself beside its tasks and languages.

    ``language_tasks`` are the tasks of a language that has fewer than all; ``variants`` the further wordings of a
    language that a request may name; ``context`` the fields of ``PromptContext`` that its wordings hold: no
    other is given to it. ``among_labels``: the probability of a label is a softmax over the labels of the request,
    so it means something among them only. ``reads_priors`` says that it looks at ``ImageSet.priors``.
    ``batches_together``: so many calls of ``answer`` made at once are written as one batch and are quicker than
    one after another; 1 where each would take memory and time of its own.
    """

    language_tasks: Mapping[Language, frozenset[Task]] = field(default_factory=dict)
    variants: Mapping[Language, frozenset[str]] = field(default_factory=dict)
    context: frozenset[str] = frozenset()
    among_labels: bool = False
    reads_priors: bool = False
    batches_together: int = 1


class Family(Protocol):
    """A loaded model. Instances are context managers; every method may be called from several threads.

    A family may have ``traits`` (see ``Traits``; without them it has none).
    """

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
        """Features of each study, in order, in one batch.

        Raises SkipStudy for a study the family cannot see: no view it reads, or images unlike its training
        ("unlike-training"); ``models.batches.PartlyEncoded`` where the features of the others are there already.
        """
        ...

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """One answer per features and request, pairwise, written in one batch.

        Raises ConfigurationError for a task or language that the family does not have, FailStudy for a request that
        this study cannot be asked (a region outside its image, more text than the model reads);
        ``models.batches.PartlyAnswered`` where answers to others are there already. An answer that cannot
        be read keeps its text and has no labels or places: nothing is guessed.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def traits_of(family: Family) -> Traits:
    """What ``family`` says of itself."""
    traits: Traits = getattr(family, "traits", Traits())
    return traits


def unsupported(model: str, request: Request, remark: str = "") -> ConfigurationError:
    """The error of a model that is asked for a task, or in a language, that it does not do.

    ``remark`` says what it does instead.
    """
    message = f"{model} does not do {request.task} in {request.language}"
    return ConfigurationError("unsupported-task", f"{message}; {remark}" if remark else message)
