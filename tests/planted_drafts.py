"""Planted drafts: faults that a check has to find, and clean drafts that have to pass, as the pipeline would feed them.

``planted/faults.jsonl`` and ``planted/clean.jsonl`` hold one draft a line: ``fault`` (which fault was planted),
``half`` (``development``, for which the checks were changed; ``held``, for which they were not; ``later``, written when
they had been changed; ``fresh``, written when they had been widened and before they were run on it), ``language``,
``findings``, ``impression``, and what was given beside it: ``prior`` (day of an earlier film), ``spacing`` (null:
none), ``box`` (the region of the first finding, on a film of 1600 by 2000 pixels), ``probabilities``, ``given`` and
``unseen`` texts, and ``bare`` (true: the first sentence rests on nothing). All text was written for this purpose; none
is of a patient.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.drafting.findings_text import read_findings
from models.drafting.supports import supports
from models.family import SeenImage
from pipeline.checks import run_checks
from pipeline.report import DraftReport, Language, PriorStudy, Provenance, Region, Verdict
from pipeline.study import ImageSet, InstanceRef, StudyImage
from pipeline.study_context import PatientIdentity, StudyContext

FOLDER = Path(__file__).parent / "planted"
FOUND_BY = {"negation": "contradiction"}
"""The check that has to find a fault, where it is not called as the fault."""
HALVES = ("development", "held", "later", "fresh")
REF = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5")
EARLIER = InstanceRef("1.2.2", "1.2.2.4", "1.2.2.4.5")
WHEN = datetime(2031, 6, 4, 5, 6, tzinfo=UTC)
CONTEXT = StudyContext("1.2.3", PatientIdentity("P1", "", (), None, ""), started=WHEN)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tally:
    """Of ``planted`` drafts, how many were objected to (``found``), and how many of them were refused (``failed``)."""

    planted: int
    found: int
    failed: int


def rows(name: str) -> list[dict[str, Any]]:
    """The drafts of ``faults`` or ``clean``, in the order of the file."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]


def verdicts(row: Row) -> dict[str, Verdict]:
    """Every check that did not pass on the draft of ``row``."""
    spacing = row.get("spacing", (0.2, 0.2))
    film = StudyImage(
        REF, 0, np.zeros((2, 2), np.float32), 2000, 1600, spacing, "DX", "CHEST", "PA", "MONOCHROME2"
    )
    prior = row.get("prior")
    images = ImageSet("1.2.3", (film,), priors=(replace(film, ref=EARLIER),) if prior else ())
    outcomes = run_checks(
        _draft(row),
        images,
        CONTEXT,
        has_prior=bool(prior),
        given=row.get("given", {}),
        unseen=row.get("unseen", ()),
    )
    return {one.check: one.verdict for one in outcomes if one.verdict is not Verdict.PASSED}


def recall(half: str) -> dict[tuple[str, str], Tally]:
    """For each planted fault and language: how many of its drafts its check objected to."""
    planted: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for row in _of(rows("faults"), half):
        key = row["fault"], row["language"]
        verdict = verdicts(row).get(FOUND_BY.get(row["fault"], row["fault"]))
        planted[key] += 1
        found[key] += verdict is not None
        failed[key] += verdict is Verdict.FAILED
    return {key: Tally(planted[key], found[key], failed[key]) for key in planted}


def false_alarms(half: str) -> dict[tuple[str, str], Tally]:
    """For each check (``any`` for one or more of them) and language: how many clean drafts it objected to."""
    clean: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for row in _of(rows("clean"), half):
        language = row["language"]
        clean[language] += 1
        against = verdicts(row)
        for check, verdict in against.items():
            found[check, language] += 1
            failed[check, language] += verdict is Verdict.FAILED
        found["any", language] += bool(against)
        failed["any", language] += Verdict.FAILED in against.values()
    return {
        (check, language): Tally(clean[language], found[check, language], failed[check, language])
        for check in dict.fromkeys(check for check, _ in found)
        for language in clean
    }


def _of(drafts: Iterable[dict[str, Any]], half: str) -> list[dict[str, Any]]:
    return [row for row in drafts if row["half"] == half]


def _draft(row: Row) -> DraftReport:
    """The draft with its findings and supports read as ``models.drafter`` reads them."""
    findings = list(read_findings(row["findings"]))
    if "box" in row:
        findings[0] = replace(findings[0], region=Region(REF, 0, *row["box"]))
    seen = (SeenImage(REF, 0, 1600, 2000),)
    day = date.fromisoformat(row["prior"]) if row.get("prior") else None
    rests = supports(
        row["findings"], row["impression"], findings, seen, (EARLIER,) if day is not None else ()
    )
    if row.get("bare"):
        rests = tuple(
            one for one in rests if (one.section, one.sentence) != (rests[0].section, rests[0].sentence)
        )
    return DraftReport(
        study_instance_uid="1.2.3",
        language=Language(row["language"]),
        findings_text=row["findings"],
        impression_text=row["impression"],
        findings=tuple(findings),
        probabilities=row.get("probabilities", {}),
        images=(REF,),
        provenance=Provenance("m", "1", "r", "torch", WHEN, WHEN),
        supports=rests,
        prior=PriorStudy("1.2.2", day) if day is not None else None,
    )
