"""Checks on drafts of firstread-mini itself: alarms per check, on unseen simulated studies, normal ones among them.

    python -m tests.benchmarks.bench_draft_alarms [--studies 100] [--cache DIR] [--show]

Every study that the model does not decline is drafted in English and Chinese, from the frontal film alone and with an
earlier film. An alarm is told apart: ``wrong`` where the draft states another set of findings and sides than were
simulated, ``right`` where it states the same. ``--show`` prints what the checks said.
"""

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from models.drafter import Drafter, open_drafter
from models.drafting.findings_text import read_findings
from models.model_choice import ModelChoice
from models.networks.mini import MiniConfig
from models.training.evaluate import WEIGHTS
from models.training.shards import ShardSample, read_facts
from models.training.unseen import unseen_studies
from pipeline.checks import run_checks
from pipeline.errors import SkipStudy
from pipeline.report import CheckOutcome, DraftReport, Language, PriorStudy, Verdict
from pipeline.study import ImageSet, InstanceRef, StudyImage
from pipeline.study_context import PatientIdentity, StudyContext

CONTEXT = StudyContext(
    "1.2.3", PatientIdentity("P1", "", (), None, ""), started=datetime(2031, 6, 4, tzinfo=UTC)
)
EARLIER = PriorStudy("1.2.2", date(2031, 3, 5))


def main() -> None:
    """Draft, check and print one row a language and setting."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reader.add_argument("--studies", type=int, default=100)
    reader.add_argument("--cache", type=Path, default=None, help="folder that keeps the rendered studies")
    reader.add_argument("--show", action="store_true")
    asked = reader.parse_args()
    samples = unseen_studies(
        asked.studies,
        MiniConfig.from_json((WEIGHTS / "config.json").read_text()).vision.image_size,
        asked.cache,
    )
    sys.stdout.write(
        "| drafts | declined | normal studies | refused | objected to | alarms: draft right | draft wrong |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        for language in Language:
            choice = ModelChoice("firstread-mini", threads=1)
            with open_drafter(choice, cache_dir=Path(folder), language=language, priors="last") as drafter:
                for prior in (False, True):
                    sys.stdout.write(_row(drafter, samples, prior, asked.show))


def _row(drafter: Drafter, samples: list[ShardSample], prior: bool, show: bool) -> str:
    alarms: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    drafts = declined = normal = refused = objected = 0
    for sample in samples:
        study = _study(sample, prior)
        try:
            (draft,) = drafter.write(drafter.encode([study]))
        except SkipStudy:
            declined += 1
            continue
        if not isinstance(draft, DraftReport):
            raise draft
        made = replace(draft, prior=EARLIER if prior else None)
        against = [
            one
            for one in run_checks(made, study, CONTEXT, has_prior=prior)
            if one.verdict is not Verdict.PASSED
        ]
        right = _stated(made) == _simulated(sample)
        alarms[right].update(one.check for one in against)
        drafts, normal = drafts + 1, normal + (not read_facts(sample.facts))
        refused += any(one.verdict is Verdict.FAILED for one in against)
        objected += bool(against)
        if show and against:
            _print(made, against, right)
    name = f"{drafter.language}, {'with an earlier film' if prior else 'frontal alone'}"
    cells = [
        ", ".join(f"{check} {n}" for check, n in sorted(alarms[side].items())) or "-"
        for side in (True, False)
    ]
    return (
        f"| {name}: {drafts} | {declined} | {normal} | {refused} | {objected} | {cells[0]} | {cells[1]} |\n"
    )


def _study(sample: ShardSample, prior: bool) -> ImageSet:
    """The frontal film, and the earlier one where it is to be given, as the pipeline would decode them."""

    def film(place: int) -> StudyImage:
        pixels = sample.images[place].astype(np.float32) / np.float32(255)
        rows, columns = pixels.shape
        ref = InstanceRef(f"1.2.{3 - place}", f"1.2.{3 - place}.4", f"1.2.{3 - place}.4.5")
        return StudyImage(ref, 0, pixels, rows, columns, (2.0, 2.0), "DX", "CHEST", "PA", "MONOCHROME2")

    return ImageSet("1.2.3", (film(0),), priors=(film(2),) if prior else ())


def _stated(draft: DraftReport) -> set[tuple[str, str]]:
    stated = {(one.kind, str(one.side or "")) for one in read_findings(draft.findings_text) if one.present}
    return {
        (kind, side)
        for kind, both in stated
        for side in (("left", "right") if both == "bilateral" else (both,))
    }


def _simulated(sample: ShardSample) -> set[tuple[str, str]]:
    return {(fact.kind, fact.side) for fact in read_facts(sample.facts)}


def _print(draft: DraftReport, against: list[CheckOutcome], right: bool) -> None:
    said = "; ".join(f"{one.check} {one.verdict}: {one.message}" for one in against)
    sys.stdout.write(
        f"{'right' if right else 'wrong'} {said} :: {draft.findings_text} :: {draft.impression_text}\n"
    )


if __name__ == "__main__":
    main()
