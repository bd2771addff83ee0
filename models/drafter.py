"""The drafter: a family, its recipe, and drafts read into values; the flows' door to the models."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from models.catalog import show
from models.endpoints.options import EndpointOptions
from models.families import Answer, Family, Features, Request, SeenFinding, Task
from models.families.opening import open_family
from models.findings_text import parse_draft
from models.recipe import Recipe
from models.simulation import phrases
from models.supports import supports
from models.tasks import Asked, SiteTask, TaskRunner, tasks_digest
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, SkipStudy
from pipeline.report import DraftReport, Finding, Language, Provenance, Region, Side
from pipeline.study import ImageSet, InstanceRef


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of studies after the encoder, in order; holds no pixels."""

    study_instance_uids: tuple[str, ...]
    features: tuple[Features, ...]
    started: datetime
    modalities: tuple[frozenset[str], ...]
    priors: tuple[tuple[InstanceRef, ...], ...]
    """The films of an earlier study that each was given with."""
    further: Mapping[str, tuple[Features | FirstreadError, ...]]
    """What the further models that are asked about images made of each study, or why they could not."""


class Drafter:
    """Drafts reports with one family and answers a site's tasks, with it or with further ones.

    ``recipe`` is the digest over everything that shapes a draft.
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
    ) -> None:
        """Wrap a loaded family, and ``others`` by the names that ``tasks`` give them; all are closed with this.

        Raises ConfigurationError when the family does not report in ``language`` or a task cannot be asked of the
        family meant. ``priors`` names the rule by which earlier studies are given: it enters the recipe, and a family
        that does not read them is refused.
        """
        if Task.REPORT not in family.tasks:
            does = ", ".join(sorted(family.tasks))
            message = (
                f"{family.model_id} writes no report of images (it does {does}): "
                "name a model of images in model.id"
            )
            raise ConfigurationError("unsupported-task", message)
        if language not in family.languages:
            message = f"{family.model_id} does not report in {language}: change policy.language or model.id"
            raise ConfigurationError("unsupported-language", message)
        if priors != "off":
            refuse_prior_unread(family)
        self._family, self.language = family, language
        self._others = dict(others or {})
        self._runner = TaskRunner(family, self._others, tasks, batch)
        self.model_id, self.model_version, self.runner = family.model_id, family.model_version, family.runner
        schema = hashlib.sha256(Path(phrases.__file__).read_bytes()).hexdigest()
        self.parts: Mapping[str, str] = {
            **family.parts,
            "model": f"{family.model_id} {family.model_version}",
            "language": str(language),
            "schema": schema,
            "code": code_version,
            **({"tasks": tasks_digest(tasks)} if tasks else {}),
            **({"priors": priors} if priors != "off" else {}),
            **{
                f"{name}/{key}": part for name, one in self._others.items() for key, part in one.parts.items()
            },
        }
        self.recipe = Recipe(self.parts).digest

    def encode(self, studies: Sequence[ImageSet]) -> Encoded:
        """Run the vision encoder over a batch. May be called from several threads.

        Raises SkipStudy when a study of the batch has no image for this model; try such a batch one by one.
        """
        started = datetime.now(UTC)
        features = self._family.encode(studies)
        return Encoded(
            tuple(study.study_instance_uid for study in studies),
            tuple(features),
            started,
            tuple(frozenset(image.modality for image in study.images) for study in studies),
            tuple(tuple(image.ref for image in study.priors) for study in studies),
            {name: _encode(self._others[name], studies) for name in self._runner.image_models},
        )

    def write(self, encoded: Encoded) -> list[DraftReport | FailStudy]:
        """Write and read the drafts of a batch, in its order; a draft that cannot be read is its FailStudy.

        The site's tasks are asked of the studies that have a draft; one that a study cannot be asked is its remark.
        The same ImageSet gives the same draft whatever the batch. May be called from several threads.
        """
        requests = [Request(Task.REPORT, self.language)] * len(encoded.features)
        answers = self._family.answer(encoded.features, requests)
        finished = datetime.now(UTC)
        drafts: list[DraftReport | FailStudy] = []
        for study, features, priors, answer in zip(
            encoded.study_instance_uids, encoded.features, encoded.priors, answers, strict=True
        ):
            provenance = Provenance(
                model_id=self.model_id,
                model_version=self.model_version,
                recipe=self.recipe,
                runner=self.runner,
                started=encoded.started,
                finished=finished,
                parts=self.parts,
            )
            try:
                drafts.append(self._draft(study, features, priors, answer, provenance))
            except FailStudy as failure:
                drafts.append(failure)
        return self._with_answers(encoded, drafts)

    def _with_answers(
        self, encoded: Encoded, drafts: Sequence[DraftReport | FailStudy]
    ) -> list[DraftReport | FailStudy]:
        if not self._runner.tasks:
            return list(drafts)
        asked = [
            Asked(
                {"": encoded.features[row], **{name: held[row] for name, held in encoded.further.items()}},
                encoded.modalities[row],
                draft.findings_text,
            )
            for row, draft in enumerate(drafts)
            if isinstance(draft, DraftReport)
        ]
        answered = iter(self._runner.run(asked))
        finished = datetime.now(UTC)
        told: list[DraftReport | FailStudy] = []
        for draft in drafts:
            if isinstance(draft, DraftReport):
                one = next(answered)
                provenance = replace(draft.provenance, finished=finished)
                draft = replace(draft, answers=one.answers, remarks=one.remarks, provenance=provenance)
            told.append(draft)
        return told

    def _draft(
        self,
        study: str,
        features: Features,
        priors: Sequence[InstanceRef],
        answer: Answer,
        provenance: Provenance,
    ) -> DraftReport:
        parsed = parse_draft(answer.text, truncated=answer.truncated)
        findings = tuple(support(finding, answer.seen) for finding in parsed.findings)
        return DraftReport(
            study_instance_uid=study,
            language=self.language,
            findings_text=parsed.findings_text,
            impression_text=parsed.impression_text,
            findings=findings,
            probabilities=answer.probabilities,
            images=tuple(image.ref for image in features.images),
            provenance=provenance,
            supports=supports(
                parsed.findings_text, parsed.impression_text, findings, features.images, priors
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for one in (self._family, *self._others.values()):
                stack.push(one)


def _encode(family: Family, studies: Sequence[ImageSet]) -> tuple[Features | FirstreadError, ...]:
    """Features of each study, or why this family has none of it."""
    try:
        return tuple(family.encode(studies))
    except (SkipStudy, FailStudy) as error:
        if len(studies) == 1:
            return (error,)
        return tuple(one for study in studies for one in _encode(family, [study]))


def support(finding: Finding, seen: Sequence[SeenFinding]) -> Finding:
    """``finding`` with the detector's probability and region for that kind and side; a stated absence has neither.

    A bilateral finding takes the box around both sides and the lesser probability.
    """
    if not finding.present:
        return finding
    same = [one for one in seen if one.kind == finding.kind]
    if finding.side in (Side.LEFT, Side.RIGHT):
        same = [one for one in same if one.side in (finding.side, None)]
    elif finding.side is None:
        same = sorted(same, key=lambda one: one.probability)[-1:]
    if not same:
        return finding
    regions = [one.region for one in same if one.region is not None]
    return Finding(
        kind=finding.kind,
        present=True,
        side=finding.side,
        zone=finding.zone,
        severity=finding.severity,
        sentence=finding.sentence,
        region=_around(regions),
        confidence=min(one.probability for one in same),
    )


def _around(regions: Sequence[Region]) -> Region | None:
    """The smallest box around boxes of one image."""
    if not regions:
        return None
    first = regions[0]
    together = [region for region in regions if (region.ref, region.frame) == (first.ref, first.frame)]
    return Region(
        first.ref,
        first.frame,
        min(region.x0 for region in together),
        min(region.y0 for region in together),
        max(region.x1 for region in together),
        max(region.y1 for region in together),
    )


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which family to open and how; ``weights`` None takes the shipped ones, ``threads`` 0 every core."""

    id: str
    weights: Path | None = None
    require_runner: str = ""
    threads: int = 0
    revision: str = ""
    accept_use_limits: bool = False
    precision: str = "auto"
    sha256: str = ""
    endpoint: EndpointOptions | None = None


def refuse_prior_unread(family: Family) -> None:
    """Raises ConfigurationError unless the family looks at ``ImageSet.priors``: it says so by ``reads_priors``.

    A comparison may be written only by a model that was really given something to compare with.
    """
    if not getattr(family, "reads_priors", False):
        message = f"{family.model_id} does not compare with earlier studies: set policy.priors to off"
        raise ConfigurationError("unsupported-priors", message)


def open_model(choice: ModelChoice, cache_dir: Path) -> Family:
    """The loaded family of a choice. Raises as ``open_family`` and for an unknown id ConfigurationError."""
    return open_family(
        show(choice.id),
        choice.weights,
        cache_dir,
        require_runner=choice.require_runner,
        threads=choice.threads,
        revision=choice.revision,
        accept_use_limits=choice.accept_use_limits,
        precision=choice.precision,
        sha256=choice.sha256,
        endpoint=choice.endpoint,
    )


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
    named = dict.fromkeys(one.model for one in tasks if one.model)
    with ExitStack() as stack:
        family = stack.enter_context(open_model(model, cache_dir))
        others = {name: stack.enter_context(open_model((further or {})[name], cache_dir)) for name in named}
        drafter = Drafter(
            family, language, code_version, tasks=tasks, others=others, batch=batch, priors=priors
        )
        stack.pop_all()
        return drafter
