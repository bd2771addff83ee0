"""How a model drafts: by which wording, what its text holds, and where the Impression comes from.

A system whose report is Findings alone gets its Impression from a ``summarize`` task over those Findings, its own or
another model's, or the draft has none and says so. Nothing is ever put in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.catalog import CatalogEntry, task_of
from models.drafting.sections import summary_text
from models.drafting.tasks import REMARK, DraftedStudy, SiteTask, TaskRunner
from models.family import Family, Features, Request, Sections, Task
from pipeline.errors import ConfigurationError, FirstreadError
from pipeline.report import CheckOutcome, ImpressionSource, Language, Verdict

NO_IMPRESSION = "none"
"""The word of a site that wants no Impression where the report has none."""


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """``task`` and ``variant`` are what a draft is asked by, ``held`` what its text holds.

    ``summarizer`` names the model that writes an Impression from the Findings where the text has none: "" the drafting
    one itself, None nobody. ``strict``: a text without an Impression is no draft.
    """

    task: Task = Task.REPORT
    variant: str = ""
    held: Sections = Sections.BOTH
    summarizer: str | None = None

    @property
    def strict(self) -> bool:
        """Whether the model is known to write both sections, and nobody else is to write the second."""
        return self.held is Sections.BOTH and self.summarizer is None

    @property
    def parts(self) -> Mapping[str, str]:
        """What the recipe says of it; nothing where it is the usual way."""
        if self == DraftPlan():
            return {}
        impression = "none" if self.summarizer is None else self.summarizer or "own"
        return {
            "draft": f"{self.variant or self.task}, {self.held}",
            "impression": f"summarized by {impression}",
        }


def draft_plan(entry: CatalogEntry, language: Language, wording: str = "", impression: str = "") -> DraftPlan:
    """How a family drafts in ``language``: ``wording`` "" is its usual one.

    ``impression`` says who writes the Impression that a report lacks: "" the model itself where it can summarise,
    "none" nobody, else the name of a further model. Raises ConfigurationError for what the family does not do.
    """
    if not entry.drafts:
        does = ", ".join(sorted(entry.tasks)) or "nothing"
        message = (
            f"{entry.id} writes no report of images (it does {does}): name a model of images in model.id"
        )
        raise ConfigurationError("unsupported-task", message)
    name = wording or next(iter(entry.drafts))
    if name not in entry.drafts:
        known = ", ".join(entry.drafts)
        message = f"{entry.id} has no wording {name!r} for a draft (there are: {known}): change model.report"
        raise ConfigurationError("unknown-wording", message)
    task, held = task_of(name), entry.drafts[name]
    if not entry.does(task, language):
        message = f"{entry.id} does not report in {language}: change policy.language or model.id"
        raise ConfigurationError("unsupported-language", message)
    variant = "" if name == task else name
    if variant and variant not in entry.traits.variants[language]:
        message = f"{entry.id} has no wording {name!r} in {language}: change policy.language or model.report"
        raise ConfigurationError("unsupported-language", message)
    if impression:
        return DraftPlan(task, variant, held, None if impression == NO_IMPRESSION else impression)
    own = held is not Sections.BOTH and entry.does(Task.SUMMARIZE, language)
    return DraftPlan(task, variant, held, "" if own else None)


@dataclass(frozen=True, slots=True)
class WrittenImpression:
    """The Impression of one draft, or why there is none (``remarks``); ``model_id`` where another model wrote it."""

    text: str = ""
    source: ImpressionSource = ImpressionSource.UNWRITTEN
    model_id: str = ""
    remarks: tuple[CheckOutcome, ...] = ()
    reasoning: str = ""


class ImpressionWriter:
    """Writes the Impressions that reports of Findings alone lack, as the site's further tasks are answered."""

    def __init__(
        self,
        plan: DraftPlan,
        family: Family,
        others: Mapping[str, Family],
        language: Language,
        batch: int,
    ) -> None:
        """Raises ConfigurationError where the model meant cannot summarise in ``language``."""
        self._runner: TaskRunner | None = None
        if plan.summarizer is not None:
            asked = SiteTask(Request(Task.SUMMARIZE, language), model=plan.summarizer)
            self._runner = TaskRunner(family, others, [asked], batch)

    def write(self, drafted: Sequence[tuple[Features, str]]) -> list[WrittenImpression]:
        """One for each (features, findings), in order. A study that cannot be summarised has none and a remark."""
        if self._runner is None or not drafted:
            return [WrittenImpression() for _ in drafted]
        held: list[Mapping[str, Features | FirstreadError]] = [{"": features} for features, _ in drafted]
        asked = [DraftedStudy(one, frozenset(), text) for one, (_, text) in zip(held, drafted, strict=True)]
        written = []
        for answered in self._runner.run(asked):
            answer = next(iter(answered.answers), None)
            text = "" if answer is None or answer.truncated else summary_text(answer.text)
            if text and answer is not None:
                source, thought = ImpressionSource.SUMMARY, answer.reasoning
                written.append(WrittenImpression(text, source, answer.model_id, reasoning=thought))
                continue
            cut = CheckOutcome(
                REMARK, Verdict.WARNED, "the summary that was to be the impression is of no use"
            )
            written.append(WrittenImpression(remarks=answered.remarks or (cut,)))
        return written
