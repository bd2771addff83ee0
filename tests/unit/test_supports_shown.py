"""Where a draft is stored and shown, every sentence of it points to an image and region or to a text."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from models.drafter import Drafter
from models.drafting.draft_plan import DraftPlan
from models.family import Answer, Features, PromptContext, Request, Sections, Task, Traits
from pipeline.checks.reading import sentences
from pipeline.fhir import validate
from pipeline.fhir.observations import SUPPORT
from pipeline.report import DraftReport, Language
from pipeline.web.rendering import page
from pipeline.web.review_view import STATUS_MEANING, review_view
from tests.answering_family import AnsweringFamily
from tests.invented_outcomes import START, answered_outcome
from tests.memory_reader import MemoryReader
from tests.tiny_model import film_study
from tests.unit.fhir_samples import STUDY, body, built

TOLD = PromptContext(indication="Known 12 mm nodule", prior_report="IMPRESSION: Large left effusion.")
FINDINGS = {
    Language.ENGLISH: "The left effusion is smaller than on the prior film. The 12 mm nodule is seen; heart normal.",
    Language.CHINESE: "左侧胸腔积液较前减少；心影不大。右肺上叶见结节，约12 mm。",
}
SUMMARY = {
    Language.ENGLISH: "Smaller left effusion. CT is advised.",
    Language.CHINESE: "左侧胸腔积液减少。建议CT检查。",
}


class FindingsAlone(AnsweringFamily):
    """Writes Findings, of which it, or another model, may write the Impression; it is told of the study."""

    traits = Traits(context=frozenset({"indication", "prior_report"}), reads_priors=True)

    def _one(self, features: Features, request: Request) -> Answer:
        written = SUMMARY if request.task is Task.SUMMARIZE else FINDINGS
        return Answer(written[request.language], False)


SHAPES = {
    "both sections with regions": (AnsweringFamily("both"), DraftPlan()),
    "findings alone": (FindingsAlone("alone"), DraftPlan(Task.FINDINGS, "", Sections.FINDINGS)),
    "findings with a summary": (
        FindingsAlone("summary"),
        DraftPlan(Task.FINDINGS, "", Sections.FINDINGS, summarizer=""),
    ),
}


@pytest.fixture(params=[(shape, language) for shape in SHAPES for language in Language], ids=str)
def draft(request: pytest.FixtureRequest) -> DraftReport:
    shape, language = request.param
    family, plan = SHAPES[shape]
    study = replace(film_study(1), priors=film_study(4).images)
    drafter = Drafter(family, language, "code", plan=plan, priors="last")
    (made,) = drafter.write(drafter.encode([study], [TOLD]))
    assert isinstance(made, DraftReport), made
    return made


def test_every_sentence_stored_as_fhir_points_to_an_image_or_a_text(draft: DraftReport) -> None:
    resources = built(draft=replace(draft, study_instance_uid=STUDY))
    validate(resources)
    for number, text in enumerate((draft.findings_text, draft.impression_text)):
        observation = body(resources, "Observation", number)
        assert observation.get("valueString", "") == text
        pointed = [_parts(one) for one in observation.get("extension", ()) if one["url"] == SUPPORT]
        pointing = [one["sentence"] for one in pointed if {"sopInstanceUid", "source"} & one.keys()]
        for sentence in sentences(text):
            assert any(sentence in whole for whole in pointing), sentence


def test_every_sentence_shown_says_what_it_rests_on(draft: DraftReport) -> None:
    reader = MemoryReader()
    outcome = answered_outcome(0)
    reader.save(replace(outcome, draft=draft), START)
    detail = reader.details[outcome.diagnostic_report_id]
    view = review_view(detail)
    for text, pieces in ((draft.findings_text, view.findings), (draft.impression_text, view.impression)):
        assert "".join(piece.text for piece in pieces) == text
        assert all(piece.why for piece in pieces if piece.text.strip()), pieces
        assert bool(pieces) == bool(text)
    shown = bytes(
        page(
            "report.html",
            detail=detail,
            view=view,
            meaning=STATUS_MEANING,
            has_knowledge=False,
            offers_anew=False,
        ).body
    ).decode()
    told = sum(bool(piece.why) for piece in (*view.findings, *view.impression))
    assert shown.count('class="sentence"') == told > 0


def test_a_given_text_and_an_earlier_film_are_named_beside_the_image() -> None:
    family, plan = SHAPES["findings with a summary"]
    study = replace(film_study(1), priors=film_study(4).images)
    drafter = Drafter(family, Language.ENGLISH, "code", plan=plan, priors="last")
    (made,) = drafter.write(drafter.encode([study], [TOLD]))
    assert isinstance(made, DraftReport)
    first, second = FINDINGS[Language.ENGLISH].split(". ", 1)
    earlier = study.priors[0].ref
    rests = [(one.sentence, one.source or one.image) for one in made.supports if one.section == "findings"]
    assert {(f"{first}.", "prior_report"), (f"{first}.", earlier), (second, "indication")} <= set(rests)
    assert {one.source for one in made.supports if one.section == "impression"} == {"findings"}


def _parts(extension: Mapping[str, Any]) -> dict[str, Any]:
    """The values within an extension by name, those of a region within it among them."""
    parts: dict[str, Any] = {}
    for part in extension["extension"]:
        parts |= _parts(part) if "extension" in part else {}
        for key in part:
            if key.startswith("value"):
                parts[part["url"]] = part[key]
    return parts
