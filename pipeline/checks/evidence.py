"""What a check may look at, read once per draft, and what it reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.checks.reading import Mention, mentions, sentences
from pipeline.report import DraftReport, Region, Verdict
from pipeline.study import ImageSet, StudyImage
from pipeline.study_context import StudyContext


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a check objects to; ``message`` is made of our own words only, never of the draft's text."""

    verdict: Verdict
    message: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The draft, the study it was drafted from, and the checks' own reading of both sections.

    ``given`` are the texts that the model was given, by name; ``unseen`` those that it may not have seen.
    """

    draft: DraftReport
    image_set: ImageSet
    context: StudyContext
    has_prior: bool
    given: Mapping[str, str]
    unseen: tuple[str, ...]
    findings: tuple[Mention, ...]
    impression: tuple[Mention, ...]

    @property
    def text(self) -> str:
        """Both sections, one after the other."""
        return f"{self.draft.findings_text}\n{self.draft.impression_text}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences of both sections."""
        return sentences(self.draft.findings_text) + sentences(self.draft.impression_text)

    def image_of(self, region: Region) -> StudyImage | None:
        """The image that ``region`` lies on, or None where the model never saw it."""
        wanted = (region.ref, region.frame)
        return next((image for image in self.image_set.images if (image.ref, image.frame) == wanted), None)


Check = Callable[[Evidence], Iterator[Problem]]


def read_evidence(
    draft: DraftReport,
    image_set: ImageSet,
    context: StudyContext,
    has_prior: bool,
    given: Mapping[str, str],
    unseen: Sequence[str],
) -> Evidence:
    """Read both sections of ``draft`` once for every check."""
    return Evidence(
        draft,
        image_set,
        context,
        has_prior,
        given,
        tuple(unseen),
        mentions(draft.findings_text),
        mentions(draft.impression_text),
    )


def warned(message: str) -> Problem:
    """A problem that is shown beside the draft."""
    return Problem(Verdict.WARNED, message)


def failed(message: str) -> Problem:
    """A problem that keeps the draft from being stored as a report."""
    return Problem(Verdict.FAILED, message)
