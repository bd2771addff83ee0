"""``firstread ask``: one task on one study, answered at once. Nothing is kept of it but its audit events."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.commands import table as display
from flows.commands.json_text import json_text
from flows.environment.code_version import code_version
from flows.environment.site_models import chosen_model, read_schema, reader_of
from flows.environment.workplace import Workplace
from flows.fetching import fetch_study, transfer_events
from flows.given import gather
from flows.priors import with_prior
from flows.tally import ALL_WELL, SOME_FAILED
from models.catalog import show
from models.drafter import Drafter, open_model, refuse_prior_unread
from models.drafting.draft_plan import NO_IMPRESSION, DraftPlan, draft_plan
from models.drafting.tasks import NO_FEATURES, TaskWording, check_family, requests_of, task_answer, task_named
from models.family import TEXT_TASKS, Family, Features, PromptContext, Request, traits_of
from models.model_choice import ModelChoice
from pipeline.accepts import StudyReader
from pipeline.checks import refuse_if_failed, run_checks
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, SkipStudy
from pipeline.fhir import audit_events
from pipeline.images import prepare_for, read_headers
from pipeline.report import Language, Place, Region, Segment, TaskAnswer
from pipeline.settings import Settings, archive_named
from pipeline.study import ImageSet, InstanceRef
from pipeline.study_context import StudyContext

NOWHERE = InstanceRef("", "", "")


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a person asks of one study. ``region`` is "x1,y1,x2,y2" in pixels of the original image."""

    archive: str
    study: str
    task: str
    question: str = ""
    target: str = ""
    region: str = ""
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    schema: Path | None = None
    variant: str = ""
    prior: str = ""
    model: str = ""
    language: str = ""

    def request(self, default: str) -> Request:
        """The request, its region not yet laid on an image. Raises ConfigurationError for what cannot be asked."""
        words = TaskWording(
            questions=(self.question,) if self.question else (),
            labels=self.labels,
            options=self.options,
            targets=(self.target,) if self.target else (),
            schema=read_schema(self.schema),
            variant=self.variant,
        )
        language = Language(self.language or default)
        (request,) = requests_of(task_named(self.task), language, words, read_region(self.region))
        return request


def ask(settings: Settings, inquiry: Inquiry, *, as_json: bool) -> int:
    """Fetch, ask, print; returns the exit code: 0 answered, 1 the study could not be asked this.

    Raises ConfigurationError and StopRun as every command, RetryLater where Postgres is away.
    """
    archive_named(settings, inquiry.archive)
    request = inquiry.request(settings.policy.language)
    choice = chosen_model(settings, inquiry.model)
    with Workplace(settings) as workplace, open_model(choice, settings.data_dir / "engines") as family:
        check_family(family, request)
        if inquiry.prior:
            refuse_prior_unread(family)
        try:
            answer = _answer(workplace, inquiry, request, choice, family)
        except (SkipStudy, FailStudy, RetryLater) as error:
            _say_failed(error, as_json=as_json)
            return SOME_FAILED
        version = family.model_version
    if as_json:
        sys.stdout.write(json_text(_plain(answer, choice.id, version)) + "\n")
    else:
        _show(answer, choice.id)
    return ALL_WELL


def read_region(text: str) -> Region | None:
    """The box of "x1,y1,x2,y2", on no image yet; None for "". Raises ConfigurationError if it is not a box."""
    if not text:
        return None
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        x0, y0, x1, y1 = 0.0, 0.0, 0.0, 0.0
    if not (0 <= x0 < x1 < float("inf") and 0 <= y0 < y1 < float("inf")):
        raise ConfigurationError(
            "region", "--region is x1,y1,x2,y2 in pixels of the original image: left, top, right, bottom"
        )
    return Region(NOWHERE, 0, x0, y0, x1, y1)


def _answer(
    workplace: Workplace, inquiry: Inquiry, request: Request, choice: ModelChoice, family: Family
) -> TaskAnswer:
    begun = datetime.now(UTC)
    reader = reader_of(workplace.model if request.task in TEXT_TASKS else choice)
    with _brought(workplace, inquiry, reader) as (context, image_set):
        earlier = None
        if inquiry.prior:
            compared = with_prior(workplace, inquiry.archive, context, image_set, inquiry.prior)
            image_set, earlier = compared.image_set, compared.earlier
        _audit(workplace, inquiry, context, choice.id, begun)
        told = gather(workplace, inquiry.archive, context, image_set, earlier)
        known = told.context
        for remark in told.remarks:
            sys.stderr.write(f"{remark.message}\n")
        request = replace(request, context=known.only(traits_of(family).context))
        features = NO_FEATURES
        if request.task in TEXT_TASKS:
            text, features = _drafted(workplace, context, image_set, known, request.language, choice, family)
            request = replace(request, text=text)
        else:
            (features,) = family.encode([image_set])
        if request.region is not None:
            request = replace(request, region=_laid(request.region, features))
        (answer,) = family.answer([features], [request])
        return task_answer(request, answer, features.images, family.model_id)


@contextmanager
def _brought(
    workplace: Workplace, inquiry: Inquiry, reader: StudyReader
) -> Iterator[tuple[StudyContext, ImageSet]]:
    """The study decoded; its files are gone from disk before it is given."""
    folder = workplace.private_folder("asked")
    try:
        fetched = fetch_study(workplace, inquiry.archive, inquiry.study, folder)
        prepared = prepare_for(
            fetched,
            read_headers(fetched, rules=workplace.rules(inquiry.archive)),
            reader,
            trust=workplace.trust(inquiry.archive),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    yield prepared


def _drafted(
    workplace: Workplace,
    context: StudyContext,
    image_set: ImageSet,
    known: PromptContext,
    language: Language,
    choice: ModelChoice,
    family: Family,
) -> tuple[str, Features]:
    """The findings that the site's drafting model writes of this study, refused where a hard check fails.

    With them the features to ask ``family`` with: it needs the study's own where it drafts itself.
    """
    drafting = chosen_model(workplace.settings, "")
    plan = draft_plan(show(drafting.id), language, drafting.report, NO_IMPRESSION)
    if drafting == choice:
        return _findings(family, plan, context, image_set, known, language)
    with open_model(drafting, workplace.settings.data_dir / "engines") as other:
        text, _ = _findings(other, plan, context, image_set, known, language)
    return text, NO_FEATURES


def _findings(
    family: Family,
    plan: DraftPlan,
    context: StudyContext,
    image_set: ImageSet,
    known: PromptContext,
    language: Language,
) -> tuple[str, Features]:
    drafter = Drafter(family, language, code_version(), plan=plan)
    encoded = drafter.encode([image_set], [known])
    (draft,) = drafter.write(encoded)
    if isinstance(draft, FirstreadError):
        raise draft
    has_prior = bool(image_set.priors)
    refuse_if_failed(run_checks(draft, image_set, context, has_prior=has_prior, given=asdict(known)))
    return draft.findings_text, encoded.features[0]


def _laid(region: Region, features: Features) -> Region:
    """The region on the first image that the model saw. Raises FailStudy where it reaches outside it."""
    image = features.images[0]
    if region.x1 > image.columns or region.y1 > image.rows:
        raise FailStudy(
            "region-range", f"the region lies outside the image of {image.columns} x {image.rows} pixels"
        )
    return replace(region, ref=image.ref, frame=image.frame)


def _audit(
    workplace: Workplace, inquiry: Inquiry, context: StudyContext, model: str, begun: datetime
) -> None:
    site = workplace.site(inquiry.archive)
    now = datetime.now(UTC)
    workplace.store.append_audit(
        [
            *transfer_events(workplace, inquiry.archive, context, begun, now),
            audit_events.study_asked(site, context, inquiry.task, model, now),
        ]
    )


def _say_failed(error: SkipStudy | FailStudy | RetryLater, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message}}) + "\n")
    else:
        sys.stderr.write(f"firstread: the study could not be asked this: {error}\n")


def _plain(answer: TaskAnswer, model: str, version: str) -> dict[str, Any]:
    """The answer as one JSON object; boxes as [x0, y0, x1, y1] and points as [x, y], pixels of the original image."""
    return {
        "notice": display.BANNER,
        "task": answer.task,
        "language": answer.language.value,
        "question": answer.question,
        "text": answer.text,
        "labels": [
            {"name": one.name, "chosen": one.chosen, "probability": one.probability} for one in answer.labels
        ],
        "places": [_plain_place(one) for one in answer.places],
        **({"segments": [_plain_segment(one) for one in answer.segments]} if answer.segments else {}),
        "structured": json.loads(answer.structured) if answer.structured else None,
        "truncated": answer.truncated,
        "model": model,
        "model_version": version,
    }


def _plain_segment(segment: Segment) -> dict[str, Any]:
    code = segment.code.value if segment.code else None
    return {"name": segment.name, "label": segment.label, "snomed": code, "volume_ml": segment.volume_ml}


def _plain_place(place: Place) -> dict[str, Any]:
    through = place.extent.on_planes() if place.extent else ()
    box, point = place.region or next(iter(through), None), place.point
    on = box or point
    return {
        "name": place.name,
        "text": place.text,
        "box": [box.x0, box.y0, box.x1, box.y1] if box else None,
        "point": [point.x, point.y] if point else None,
        "sop_instance_uid": on.ref.sop_instance_uid if on else None,
        "frame": on.frame if on else None,
        "planes": [{"sop_instance_uid": one.ref.sop_instance_uid, "frame": one.frame} for one in through],
        "confidence": place.confidence,
    }


def _show(answer: TaskAnswer, model: str) -> None:
    said = answer.structured or answer.text
    if answer.places and not re.search(r"[^\W\d_]", said):
        said = ""  # marks alone: the places below say them in pixels
    rows = [("", said)] if said else []
    rows += [
        (
            one.name,
            " ".join(part for part in ("chosen" if one.chosen else "no", _chance(one.probability)) if part),
        )
        for one in answer.labels
    ]
    rows += [
        (one.name, " ".join(part for part in (one.text, _where(one), _chance(one.confidence)) if part))
        for one in answer.places
    ]
    if answer.truncated:
        rows.append(("", "The text reached its length limit and may be cut short."))
    title = " – ".join(part for part in (answer.task, answer.question) if part)  # noqa: RUF001
    display.rows_table(("", f"answer of {model}"), rows, title=title, caption=display.BANNER)


def _chance(probability: float | None) -> str:
    return "" if probability is None else f"({probability:.2f})"


def _where(place: Place) -> str:
    if (box := place.region) is not None:
        return f"x {box.x0:.0f}-{box.x1:.0f}, y {box.y0:.0f}-{box.y1:.0f}"
    if (point := place.point) is not None:
        return f"x {point.x:.0f}, y {point.y:.0f}"
    if (extent := place.extent) is not None:
        sides = f"x {extent.x0:.0f}-{extent.x1:.0f}, y {extent.y0:.0f}-{extent.y1:.0f}"
        return f"{sides}, on {len(extent.planes)} of the planes shown"
    return "" if place.text else "not found"
