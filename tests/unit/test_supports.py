"""What each sentence of a draft rests on."""

from dataclasses import replace
from typing import Any

import pytest

from models.catalog import CatalogEntry, list_models
from models.drafter import Drafter
from models.drafting.draft_plan import draft_plan
from models.drafting.findings_text import read_findings
from models.drafting.supports import MOST_IMAGES, supports
from models.family import Answer, Features, Request, Sections, SeenImage, Task
from models.prompts import read_wordings
from pipeline.checks.reading import sentences
from pipeline.report import DraftReport, ImpressionSource, Language, Region, Side, Support
from pipeline.study import InstanceRef
from tests.answering_family import AnsweringFamily
from tests.tiny_model import film_study

FILM, LATERAL = InstanceRef("1", "1.1", "1.1.1"), InstanceRef("1", "1.1", "1.1.2")
SEEN = (SeenImage(FILM, 0, 100, 100),)
LEFT, RIGHT = Region(FILM, 0, 60, 60, 90, 90), Region(FILM, 0, 10, 60, 40, 90)
TEXT = "There is a small left pleural effusion and a small right pleural effusion. No pneumothorax. Lines are tidy."


def found(text: str) -> list[Support]:
    """The supports of ``text`` as an impression of TEXT."""
    places = {Side.LEFT: LEFT, Side.RIGHT: RIGHT}
    findings = [
        replace(one, region=places.get(one.side) if one.side and one.present else None)
        for one in read_findings(TEXT)
    ]
    return list(supports(TEXT, text, findings, SEEN))


def test_findings_rest_on_their_regions_else_on_the_image() -> None:
    first, second, third, fourth, *_ = found("Effusion.")
    assert (first.region, second.region) == (LEFT, RIGHT)
    assert first.sentence == second.sentence == TEXT.split(". ")[0] + "."
    assert third == Support("findings", "No pneumothorax.", FILM)
    assert fourth == Support("findings", "Lines are tidy.", FILM)


def test_the_impression_rests_on_the_finding_it_repeats() -> None:
    def last(text: str) -> list[Support]:
        return [one for one in found(text) if one.section == "impression"]

    left = "Small left pleural effusion."
    assert last(left) == [Support("impression", left, FILM, LEFT)]
    both = "Bilateral pleural effusions."
    assert [one.region for one in last(both)] == [LEFT, RIGHT]
    assert last("No pneumothorax.") == [Support("impression", "No pneumothorax.", FILM)]
    for own in ("Follow up.", "Cardiomegaly.", "Left pneumothorax."):
        assert last(own) == [Support("impression", own, source="findings")]


def test_a_sentence_without_a_region_rests_on_every_film_and_on_the_first_of_many_slices() -> None:
    two = (*SEEN, SeenImage(LATERAL, 0, 100, 100))
    assert [one.image for one in supports("Clear.", "", (), two)] == [FILM, LATERAL]
    slices = [SeenImage(InstanceRef("1", "1.1", f"1.1.{n}"), 0, 9, 9) for n in range(90)]
    assert len(supports("Clear.", "", (), slices)) == MOST_IMAGES
    assert supports("", "", (), SEEN) == ()


def test_a_sentence_of_comparison_rests_on_the_earlier_film_too() -> None:
    prior = InstanceRef("0", "0.1", "0.1.1")
    text = "The effusion is unchanged. No pneumothorax."
    rests = supports(text, "心影较前增大。", (), SEEN, (prior,))
    assert [one.sentence for one in rests if one.image == prior] == [
        "The effusion is unchanged.",
        "心影较前增大。",
    ]
    assert not [one for one in supports(text, "", (), SEEN) if one.image == prior]


def test_a_sentence_that_repeats_or_compares_with_a_given_text_rests_on_it_too() -> None:
    given = {
        "indication": "Known 12 mm nodule, pain in the left side of the chest for two days",
        "prior_report": "IMPRESSION: Large effusion.",
    }

    def told(text: str, **more: Any) -> list[str]:
        return [one.source for one in supports(text, "", (), SEEN, given=given, **more) if one.source]

    assert told("The 12 mm nodule is seen.") == ["indication"]
    assert told("Pain in the left side of the chest is reported.") == ["indication"]
    assert told("The effusion is smaller than on the prior film.") == ["prior_report"]
    assert told("A 13 mm nodule. The left side of the heart is normal.") == []
    assert [
        one.source for one in supports("", "Known 12 mm nodule.", (), SEEN, summarized=True, given=given)
    ] == ["findings"]
    chinese = {"indication": "右肺上叶结节切除术后第三天复查"}
    assert [
        one.source for one in supports("右肺上叶结节切除术后第三天改变。", "", (), SEEN, given=chinese)
    ] == [
        "",
        "indication",
    ]


def test_every_sentence_of_a_draft_has_a_support() -> None:
    drafter = Drafter(AnsweringFamily(), Language.ENGLISH, "code")
    (draft,) = drafter.write(drafter.encode([film_study(1)]))
    assert isinstance(draft, DraftReport)
    told = [(one.section, one.sentence, one.region is not None, one.source) for one in draft.supports]
    assert told == [
        ("findings", "There is a small left pleural effusion.", True, ""),
        ("findings", "No pneumothorax.", False, ""),
        ("findings", "The heart is normal in size.", False, ""),
        ("impression", "Small left pleural effusion.", True, ""),
        ("impression", "Follow up.", False, "findings"),
    ]


DRAFTING = [
    (entry, language, name)
    for entry in list_models()
    for language in Language
    for name in entry.drafts
    if entry.prompts and (name, language) in read_wordings(entry.prompts).texts
]
"""Every system that drafts, in each of its languages and by each wording of its reports."""
STATED = {
    Language.ENGLISH: "1. There is a small left pleural effusion; the heart is enlarged.\nNo pneumothorax.  Line 2",
    Language.CHINESE: "左侧胸腔见少量积液；心影增大。未见气胸。\n其余未见异常",
}
CONCLUDED = {
    Language.ENGLISH: "Small left pleural effusion. CT is advised.\n- Cardiomegaly",
    Language.CHINESE: "左侧少量胸腔积液。建议CT检查。\n心影增大",
}


class TalkingFamily(AnsweringFamily):
    """Writes what a system of the catalogue holds in its drafts: both sections, or Findings alone; it summarises."""

    def __init__(self, entry: CatalogEntry, held: Sections) -> None:
        super().__init__(entry.id, tasks=frozenset({*entry.tasks, Task.SUMMARIZE}))
        self.held, self.traits = held, entry.traits

    def _one(self, features: Features, request: Request) -> Answer:
        if request.task is Task.SUMMARIZE:
            return Answer(CONCLUDED[request.language], False)
        findings = STATED[request.language]
        if self.held is not Sections.BOTH:
            return Answer(findings, False)
        heads = (
            ("Findings:", "Impression:") if request.language is Language.ENGLISH else ("检查所见：", "印象：")
        )
        return Answer(f"{heads[0]} {findings}\n{heads[1]} {CONCLUDED[request.language]}", False)


def test_the_catalogue_drafts_in_both_languages() -> None:
    assert {language for _, language, _ in DRAFTING} == set(Language)
    worded = [one for one in list_models() if one.drafts and one.prompts]  # a segmenter's text is its volumes
    assert len({entry.id for entry, _, _ in DRAFTING}) == len(worded)


@pytest.mark.parametrize(
    ("entry", "language", "name"), DRAFTING, ids=lambda part: getattr(part, "id", str(part))
)
def test_every_sentence_of_every_system_rests_on_an_image_or_a_given_text(
    entry: CatalogEntry, language: Language, name: str
) -> None:
    plan = draft_plan(entry, language, name)
    drafter = Drafter(TalkingFamily(entry, plan.held), language, "code", plan=plan)
    (draft,) = drafter.write(drafter.encode([film_study(1)]))
    assert isinstance(draft, DraftReport)
    told = {(one.section, one.sentence) for one in draft.supports if one.image is not None or one.source}
    sections = {"findings": draft.findings_text, "impression": draft.impression_text}
    assert bool(draft.impression_text) == (draft.impression_source is not ImpressionSource.UNWRITTEN)
    for section, text in sections.items():
        for sentence in sentences(text):
            assert any(part == section and sentence in whole for part, whole in told), sentence
