"""The drafter: a family, its recipe, and drafts read into values; the flows' door to the models."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from models.catalog import show
from models.families import Answer, Family, Features, Request, SeenFinding, Task
from models.families.opening import open_family
from models.findings_text import parse_draft
from models.recipe import Recipe
from models.simulation import phrases
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import DraftReport, Finding, Language, Provenance, Region, Side
from pipeline.study import ImageSet


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of studies after the encoder, in order; holds no pixels."""

    study_instance_uids: tuple[str, ...]
    features: tuple[Features, ...]
    started: datetime


class Drafter:
    """Drafts reports with one family. ``recipe`` is the digest over everything that shapes a draft."""

    def __init__(self, family: Family, language: Language, code_version: str) -> None:
        """Wrap a loaded family; raises ConfigurationError when it does not report in ``language``."""
        if Task.REPORT not in family.tasks or language not in family.languages:
            message = f"{family.model_id} does not report in {language}: change policy.language or model.id"
            raise ConfigurationError("unsupported-language", message)
        self._family, self.language = family, language
        self.model_id, self.model_version, self.runner = family.model_id, family.model_version, family.runner
        schema = hashlib.sha256(Path(phrases.__file__).read_bytes()).hexdigest()
        self.parts: Mapping[str, str] = {
            **family.parts,
            "model": f"{family.model_id} {family.model_version}",
            "language": str(language),
            "schema": schema,
            "code": code_version,
        }
        self.recipe = Recipe(self.parts).digest

    def encode(self, studies: Sequence[ImageSet]) -> Encoded:
        """Run the vision encoder over a batch. May be called from several threads.

        Raises SkipStudy when a study of the batch has no image for this model; try such a batch one by one.
        """
        started = datetime.now(UTC)
        features = self._family.encode(studies)
        return Encoded(tuple(study.study_instance_uid for study in studies), tuple(features), started)

    def write(self, encoded: Encoded) -> list[DraftReport | FailStudy]:
        """Write and read the drafts of a batch, in its order; a draft that cannot be read is its FailStudy.

        The same ImageSet gives the same draft whatever the batch. May be called from several threads.
        """
        requests = [Request(Task.REPORT, self.language)] * len(encoded.features)
        answers = self._family.answer(encoded.features, requests)
        finished = datetime.now(UTC)
        drafts: list[DraftReport | FailStudy] = []
        for study, features, answer in zip(
            encoded.study_instance_uids, encoded.features, answers, strict=True
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
                drafts.append(self._draft(study, features, answer, provenance))
            except FailStudy as failure:
                drafts.append(failure)
        return drafts

    def _draft(self, study: str, features: Features, answer: Answer, provenance: Provenance) -> DraftReport:
        parsed = parse_draft(answer.text, truncated=answer.truncated)
        return DraftReport(
            study_instance_uid=study,
            language=self.language,
            findings_text=parsed.findings_text,
            impression_text=parsed.impression_text,
            findings=tuple(support(finding, answer.seen) for finding in parsed.findings),
            probabilities=answer.probabilities,
            images=tuple(image.ref for image in features.images),
            provenance=provenance,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._family.__exit__(kind, error, trace)


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


def open_drafter(
    model_id: str,
    *,
    cache_dir: Path,
    weights_dir: Path | None = None,
    require_runner: str = "",
    threads: int = 0,
    revision: str = "",
    accept_use_limits: bool = False,
    language: Language = Language.ENGLISH,
    code_version: str = "",
) -> Drafter:
    """Load a family by its catalogue name; a context manager.

    ``weights_dir`` None takes the shipped weights, ``cache_dir`` keeps exported graphs and compiled engines,
    ``threads`` 0 takes every core. The first start on a machine exports the graphs, which takes some ten
    seconds. Raises ConfigurationError for an unknown model or language, StopRun when weights, graphs, engine
    or runner are not what was expected.
    """
    entry = show(model_id)
    family = open_family(
        entry,
        weights_dir,
        cache_dir,
        require_runner=require_runner,
        threads=threads,
        revision=revision,
        accept_use_limits=accept_use_limits,
    )
    return Drafter(family, language, code_version)
