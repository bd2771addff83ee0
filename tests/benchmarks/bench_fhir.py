"""FHIR: one report with ten Observations built, validated twice and serialised, against fhir.resources.

    python -m tests.benchmarks.bench_fhir [--studies N] [--rounds N]

Both sides make the same transaction Bundle of the same invented studies, all different, in turns within one
run. The other side is what one writes first: a model per resource, a Bundle of them, ``model_dump_json``; the
dictionaries it starts from are given to it for nothing, ours are built inside the measured time.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, cast

import orjson
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle, BundleEntry, BundleEntryRequest

from pipeline.fhir.bundle import build_resources, transaction_bundle
from pipeline.fhir.validation import validate
from pipeline.ledger import Completeness, Resource
from pipeline.report import DraftReport, Finding, Region, Side
from pipeline.study import ImageSet, InstanceRef
from pipeline.study_context import StudyContext
from tests.unit.fhir_samples import CHECKS, CONTEXT, DRAFT, IMAGES, ISSUED, PATIENT, SITE

BASE = "https://fhir.example.org/r4"
KINDS = ("nodule", "consolidation", "pleural_effusion", "pneumothorax", "cardiomegaly", "pacemaker")
WHEN = ISSUED.replace(microsecond=0)
Study = tuple[DraftReport, StudyContext, ImageSet, Completeness]


def invented(number: int) -> Study:
    """A study unlike any other: UIDs, patient, text, regions, confidences, manifest."""
    uid = f"2.25.{10_000 + number}"
    refs = [InstanceRef(uid, f"{uid}.1", f"{uid}.1.{n}") for n in (1, 2)]
    described = zip(CONTEXT.instances, refs, strict=True)
    findings = tuple(
        Finding(
            kind=KINDS[position % len(KINDS)],
            present=True,
            side=(Side.LEFT, Side.RIGHT)[position % 2],
            severity="small",
            sentence=f"Finding {position} of study {number}.",
            region=Region(refs[0], 0, position + number / 7, 10.0, 900.0 + number / 9, 950.5)
            if position < 5
            else None,
            confidence=(number * 13 + position * 7) % 1000 / 1000,
        )
        for position in range(8)
    )
    context = replace(
        CONTEXT,
        study_instance_uid=uid,
        patient=replace(PATIENT, patient_id=f"TEST-{number}", name_groups=(f"Fictitious^Number {number}",)),
        accession_number=f"ACC-{number}",
        instances=tuple(replace(one, ref=ref) for one, ref in described),
    )
    draft = replace(
        DRAFT,
        study_instance_uid=uid,
        findings_text=" ".join(one.sentence for one in findings),
        impression_text=f"Several findings in study {number}.",
        findings=findings,
        images=(refs[0],),
        provenance=replace(DRAFT.provenance, started=WHEN, finished=WHEN),
    )
    images = replace(IMAGES, study_instance_uid=uid, images=(replace(IMAGES.images[0], ref=refs[0]),))
    return draft, context, images, Completeness(2, 2, (), f"{number:064x}", "a" * 64)


def build(study: Study) -> tuple[Resource, ...]:
    """Our resources of one study."""
    draft, context, images, completeness = study
    return build_resources(draft, context, images, CHECKS, completeness, SITE, WHEN)


def ours(studies: Sequence[Study]) -> list[bytes]:
    """Built, doubly validated, serialised."""
    bundles = []
    for study in studies:
        resources = build(study)
        validate(resources)
        bundles.append(orjson.dumps(transaction_bundle(resources, BASE)))
    return bundles


def obvious(prepared: Sequence[Sequence[Resource]]) -> list[str]:
    """A model per resource, a Bundle of them, dumped."""
    bundles = []
    for resources in prepared:
        entries = [
            BundleEntry(
                fullUrl=f"{BASE}/{one.resource_type}/{one.resource_id}",
                resource=cast(Any, get_fhir_model_class(one.resource_type))(**one.body),
                request=BundleEntryRequest(method="PUT", url=f"{one.resource_type}/{one.resource_id}"),
            )
            for one in resources
        ]
        bundles.append(Bundle(type="transaction", entry=entries).model_dump_json())
    return bundles


def seconds(work: Callable[[], object]) -> float:
    """CPU time of ``work``: both sides run in one thread, and a busy machine disturbs it less than the clock."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Print both sides in CPU milliseconds a report, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    first = [invented(0)]
    same = orjson.loads(ours(first)[0]) == json.loads(obvious([build(first[0])])[0])
    mine, theirs = [], []
    for turn in range(options.rounds):
        start = 1 + turn * options.studies
        studies = [invented(number) for number in range(start, start + options.studies)]
        prepared = [build(study) for study in studies]
        theirs.append(seconds(partial(obvious, prepared)) / options.studies * 1000)
        mine.append(seconds(partial(ours, studies)) / options.studies * 1000)
    ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
    print(
        json.dumps(
            {
                "ours_cpu_ms": round(median(mine), 3),
                "fhir_resources_cpu_ms": round(median(theirs), 3),
                "ratio": round(ratio, 3),
                "bar": 0.4,
                "same_bundle": same,
                "bytes": len(ours(first)[0]),
                "observations": sum(one.resource_type == "Observation" for one in build(first[0])),
            }
        )
    )


if __name__ == "__main__":
    main()
