"""The drafter: a family, its recipe, and drafts read into values; the flows' door to the models."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from models.batches import answer_each, encode_each
from models.catalog import show
from models.drafting.draft_plan import (
    NO_IMPRESSION,
    DraftPlan,
    ImpressionWriter,
    WrittenImpression,
    draft_plan,
)
from models.drafting.findings_text import ParsedDraft, parse_draft
from models.drafting.regions import placed, support
from models.drafting.supports import supports
from models.drafting.tasks import NO_CONTEXT, DraftedStudy, SiteTask, TaskRunner, check_family, tasks_digest
from models.families.registry import open_family
from models.family import Answer, Family, Features, PromptContext, Request, Sections, traits_of
from models.film_sizes import in_size, longest_side
from models.model_choice import ModelChoice
from models.recipe import Recipe
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError
from pipeline.report import DraftReport, ImpressionSource, Language, Provenance
from pipeline.study import ImageSet, InstanceRef


@dataclass(frozen=True, slots=True)
class Encoded:
    """The studies of a batch that have features, in order.

    It holds no decoded study. A family that may have to look again for another task keeps small pictures of its own
    among its features: bytes at its input size (Uni-Med, UMIT, MedGemma 1.5), or the PNG files that a server is sent.
    """

    study_instance_uids: tuple[str, ...]
    features: tuple[Features, ...]
    started: datetime
    modalities: tuple[frozenset[str], ...]
    priors: tuple[tuple[InstanceRef, ...], ...]
    """The films of an earlier study that each was given with."""
    further: Mapping[str, tuple[Features | FirstreadError, ...]]
    """What the further models that are asked about images made of each study, or why they could not."""
    contexts: tuple[PromptContext, ...]
    refused: Mapping[int, FirstreadError]
    """Places in the batch that was asked for of the studies that are in nothing else of this, and why."""


class Drafter:
    """Drafts reports with one family and answers a site's tasks, with it or with further ones.

    ``recipe`` is the digest over everything that shapes a draft; ``batches_together`` says how many calls of ``write``
    at once all of its models are made for (``models.family.Traits``).
    """

    def __init__(
        self,
        family: Family,
        language: Language,
        code_version: str,
        *,
        tasks: Sequence[SiteTask] = (),
        others: Mapping[str, Family] | None = None,
        batch: int = 32,
        priors: str = "off",
        plan: DraftPlan = DraftPlan(),  # noqa: B008 - frozen
        revision: str = "",
        sides: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Wrap a loaded family, and ``others`` by the names that ``tasks`` give them; all are closed with this.

        Raises ConfigurationError when the family does not report in ``language`` or a task cannot be asked of the
        family meant. ``priors`` names the rule by which earlier studies are given: it enters the recipe, and a family
        that does not read them is refused. ``revision`` is what a site says of its weights. ``sides`` are the pixels
        that the longest side of a film may have, of this family ("") and of ``others`` by name.
        """
        check_family(family, Request(plan.task, language, variant=plan.variant))
        if priors != "off":
            refuse_prior_unread(family)
        self._family, self.language = family, language
        self._others = dict(others or {})
        self._plan, self._sides = plan, sides
        self._runner = TaskRunner(family, self._others, tasks, batch)
        self._impressions = ImpressionWriter(plan, family, self._others, language, batch)
        self.model_id, self.model_version, self.runner = family.model_id, family.model_version, family.runner
        self.batches_together = min(
            traits_of(one).batches_together for one in (family, *self._others.values())
        )
        self.parts: Mapping[str, str] = {
            **family.parts,
            "model": f"{family.model_id} {family.model_version}",
            "language": str(language),
            "code": code_version,
            **plan.parts,
            **({"tasks": tasks_digest(tasks)} if tasks else {}),
            **({"priors": priors} if priors != "off" else {}),
            **({"revision": revision} if revision else {}),
            **{
                f"{name}/{key}": part for name, one in self._others.items() for key, part in one.parts.items()
            },
        }
        self.recipe = Recipe(self.parts).digest

    def under(self, recipe: str, route: str = "") -> None:
        """Name ``recipe`` on the drafts, that of a site whose models share its studies, and the ``route`` here."""
        self.recipe = recipe
        if route:
            self.parts = {**self.parts, "route": route}

    def encode(self, studies: Sequence[ImageSet], contexts: Sequence[PromptContext] = ()) -> Encoded:
        """Run the vision encoder over a batch. May be called from several threads.

        ``contexts`` say what is known of each study beside its images; each model is given the parts that its own
        wordings hold.

        A study that this model does not read is among ``refused``; asked for alone, its SkipStudy is raised.
        """
        started = datetime.now(UTC)
        each = encode_each(self._family, self._in_size("", studies))
        known = list(contexts) or [NO_CONTEXT] * len(studies)
        if len(known) != len(studies):
            raise ValueError("studies and their contexts go in pairs")
        refused = {row: one for row, one in enumerate(each) if isinstance(one, FirstreadError)}
        if refused and len(studies) == 1:
            raise refused[0]
        studies = [study for row, study in enumerate(studies) if row not in refused]
        return Encoded(
            tuple(study.study_instance_uid for study in studies),
            tuple(one for one in each if isinstance(one, Features)),
            started,
            tuple(frozenset(image.modality for image in study.images) for study in studies),
            tuple(tuple(image.ref for image in study.priors) for study in studies),
            {
                name: tuple(encode_each(self._others[name], self._in_size(name, studies)))
                for name in self._runner.image_models
            },
            tuple(one for row, one in enumerate(known) if row not in refused),
            refused,
        )

    def _in_size(self, name: str, studies: Sequence[ImageSet]) -> Sequence[ImageSet]:
        return in_size(studies, self._sides[name]) if name in self._sides else studies

    def write(self, encoded: Encoded) -> list[DraftReport | FirstreadError]:
        """Write and read the drafts of a batch, in its order; one that cannot be had or read is its error.

        The site's tasks are asked of the studies that have a draft; one that a study cannot be asked is its remark.
        The same ImageSet gives the same draft whatever the batch. May be called from several threads.
        """
        allowed = traits_of(self._family).context
        plain = Request(self._plan.task, self.language, variant=self._plan.variant)
        requests = [replace(plain, context=one.only(allowed)) for one in encoded.contexts]
        answers = answer_each(self._family, encoded.features, requests)
        parsed = [self._parsed(answer) for answer in answers]
        impressions = self._concluded(encoded, parsed)
        finished = datetime.now(UTC)
        provenance = Provenance(
            model_id=self.model_id,
            model_version=self.model_version,
            recipe=self.recipe,
            runner=self.runner,
            started=encoded.started,
            finished=finished,
            parts=self.parts,
        )
        drafts: list[DraftReport | FirstreadError] = []
        for row, (answer, read) in enumerate(zip(answers, parsed, strict=True)):
            if isinstance(answer, FirstreadError):
                drafts.append(answer)
            elif isinstance(read, FirstreadError):
                drafts.append(read)
            else:
                drafts.append(self._draft(encoded, row, read, answer, impressions[row], provenance))
        return self._with_answers(encoded, drafts)

    def _parsed(self, answer: Answer | FirstreadError) -> ParsedDraft | FirstreadError:
        if isinstance(answer, FirstreadError):
            return answer
        held = Sections.BOTH if self._plan.strict else Sections.FINDINGS
        try:
            return parse_draft(answer.text, truncated=answer.truncated, held=held)
        except FailStudy as failure:
            return failure

    def _concluded(
        self, encoded: Encoded, parsed: Sequence[ParsedDraft | FirstreadError]
    ) -> dict[int, WrittenImpression]:
        """The Impression of each draft that could be read, written here where its text has none."""
        told: dict[int, WrittenImpression] = {}
        lacking: dict[int, str] = {}
        for row, read in enumerate(parsed):
            if isinstance(read, FirstreadError):
                continue
            if read.impression_text:
                told[row] = WrittenImpression(read.impression_text, ImpressionSource.REPORT)
            else:
                lacking[row] = read.findings_text
        written = self._impressions.write([(encoded.features[row], text) for row, text in lacking.items()])
        return {**told, **dict(zip(lacking, written, strict=True))}

    def _with_answers(
        self, encoded: Encoded, drafts: Sequence[DraftReport | FirstreadError]
    ) -> list[DraftReport | FirstreadError]:
        if not self._runner.tasks:
            return list(drafts)
        asked = [
            DraftedStudy(
                {"": encoded.features[row], **{name: held[row] for name, held in encoded.further.items()}},
                encoded.modalities[row],
                draft.findings_text,
                encoded.contexts[row],
            )
            for row, draft in enumerate(drafts)
            if isinstance(draft, DraftReport)
        ]
        answered = iter(self._runner.run(asked))
        finished = datetime.now(UTC)
        told: list[DraftReport | FirstreadError] = []
        for draft in drafts:
            if isinstance(draft, DraftReport):
                one = next(answered)
                provenance = replace(draft.provenance, finished=finished)
                remarks = (*draft.remarks, *one.remarks)
                draft = replace(draft, answers=one.answers, remarks=remarks, provenance=provenance)
            told.append(draft)
        return told

    def _draft(
        self,
        encoded: Encoded,
        row: int,
        parsed: ParsedDraft,
        answer: Answer,
        impression: WrittenImpression,
        provenance: Provenance,
    ) -> DraftReport:
        images = encoded.features[row].images
        findings = tuple(
            placed(support(finding, answer.seen), answer.places, images) for finding in parsed.findings
        )
        return DraftReport(
            study_instance_uid=encoded.study_instance_uids[row],
            language=self.language,
            findings_text=parsed.findings_text,
            impression_text=impression.text,
            findings=findings,
            probabilities=answer.probabilities,
            images=tuple(image.ref for image in images),
            provenance=replace(provenance, reasoning=_thought(answer, impression)),
            supports=supports(
                parsed.findings_text,
                impression.text,
                findings,
                images,
                encoded.priors[row],
                summarized=impression.source is ImpressionSource.SUMMARY,
                given=asdict(encoded.contexts[row].only(traits_of(self._family).context)),
            ),
            remarks=impression.remarks,
            impression_source=impression.source,
            impression_model=impression.model_id,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for one in (self._family, *self._others.values()):
                stack.push(one)


def _thought(answer: Answer, impression: WrittenImpression) -> dict[str, str]:
    """What was thought before each part of a draft, where anything was."""
    told = {"report": answer.reasoning, "impression": impression.reasoning}
    return {name: text for name, text in told.items() if text}


def refuse_prior_unread(family: Family) -> None:
    """Raises ConfigurationError unless the family looks at ``ImageSet.priors``: ``Traits`` says so.

    A comparison may be written only by a model that was really given something to compare with.
    """
    if not traits_of(family).reads_priors:
        message = f"{family.model_id} does not compare with earlier studies: set policy.priors to off"
        raise ConfigurationError("unsupported-priors", message)


def open_model(choice: ModelChoice, cache_dir: Path) -> Family:
    """The loaded family of a choice. Raises as ``open_family`` and for an unknown id ConfigurationError."""
    return open_family(show(choice.id), choice, cache_dir)


def open_drafter(
    model: ModelChoice,
    *,
    cache_dir: Path,
    language: Language = Language.ENGLISH,
    code_version: str = "",
    tasks: Sequence[SiteTask] = (),
    further: Mapping[str, ModelChoice] | None = None,
    batch: int = 32,
    priors: str = "off",
) -> Drafter:
    """Load a family by its catalogue name, and of ``further`` those that a task names; a context manager.

    ``cache_dir`` keeps exported graphs and compiled engines, ``batch`` bounds the requests answered together. The
    first start on a machine exports the graphs, which takes some ten seconds. Raises ConfigurationError for an
    unknown model, language or task, StopRun when weights, graphs, engine or runner are not what was expected.
    """
    plan = draft_plan(show(model.id), language, model.report, model.impression)
    named = dict.fromkeys(name for name in (plan.summarizer, *(one.model for one in tasks)) if name)
    if missing := [name for name in named if name not in (further or {})]:
        message = f"no [models.{missing[0]}] in the configuration: add it, or set model.impression to {NO_IMPRESSION!r}"
        raise ConfigurationError("unknown-model", message)
    with ExitStack() as stack:
        family = stack.enter_context(open_model(model, cache_dir))
        others = {name: stack.enter_context(open_model((further or {})[name], cache_dir)) for name in named}
        drafter = Drafter(
            family,
            language,
            code_version,
            tasks=tasks,
            others=others,
            batch=batch,
            priors=priors,
            plan=plan,
            revision=model.revision,
            sides={
                "": longest_side(model),
                **{name: longest_side((further or {})[name]) for name in others},
            },
        )
        stack.pop_all()
        return drafter
