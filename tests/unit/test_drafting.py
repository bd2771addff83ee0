"""Drafts of systems that write Findings alone: who writes the Impression, and what is said where nobody does."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.catalog import list_models, show, task_of
from models.drafter import Drafter, open_drafter
from models.drafting.draft_plan import DraftPlan, draft_plan
from models.drafting.findings_text import parse_draft
from models.drafting.regions import placed
from models.drafting.sections import split_sections, summary_text
from models.families.endpoint.wording import wording_of
from models.family import Answer, Features, Request, Sections, SeenImage, Task
from models.model_choice import ModelChoice
from models.prompts import read_wordings
from pipeline.checks import run_checks
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.fhir import validate
from pipeline.report import DraftReport, Finding, ImpressionSource, Language, Place, Region, Side, Verdict
from tests.answering_family import AnsweringFamily
from tests.tiny_model import film_study
from tests.unit.fhir_samples import CONTEXT, DRAFT, body, built

ENGLISH, CHINESE = Language.ENGLISH, Language.CHINESE
FINDINGS = "There is a small left pleural effusion. No pneumothorax."
IMAGE = SeenImage(film_study(1).images[0].ref, 0, 150, 120)


class FindingsFamily(AnsweringFamily):
    """Its report is Findings alone; its summary is what ``summary`` says, or a failure where that is ""."""

    def __init__(self, *tasks: Task, summary: str = "Impression: Small left pleural effusion.") -> None:
        super().__init__("findings-only", tasks=frozenset(tasks))
        self.summary, self.asked = summary, list[Request]()

    def _one(self, features: Features, request: Request) -> Answer:
        self.asked.append(request)
        if request.task is not Task.SUMMARIZE:
            return Answer(FINDINGS, False)
        if not self.summary:
            raise FailStudy("text-too-long", "the findings are too long to be summarised")
        return Answer(self.summary, truncated=self.summary == "cut")


def drafted(family: FindingsFamily, plan: DraftPlan, **more: Any) -> DraftReport:
    drafter = Drafter(family, ENGLISH, "code", plan=plan, **more)
    (draft,) = drafter.write(drafter.encode([film_study(1)]))
    assert isinstance(draft, DraftReport), draft
    return draft


FINDINGS_ONLY = DraftPlan(Task.FINDINGS, "", Sections.FINDINGS)


def test_without_a_summary_the_draft_says_that_none_was_written() -> None:
    draft = drafted(FindingsFamily(Task.FINDINGS), FINDINGS_ONLY)
    assert (draft.findings_text, draft.impression_text) == (FINDINGS, "")
    assert draft.impression_source is ImpressionSource.UNWRITTEN
    assert [one.kind for one in draft.findings if one.present] == ["pleural_effusion"]
    (sections,) = (one for one in run_checks(draft, film_study(1), CONTEXT) if one.check == "sections")
    assert (sections.verdict, sections.message) == (
        Verdict.WARNED, "no impression was written: the model writes findings only"
    )  # fmt: skip


def test_the_model_summarises_its_own_findings() -> None:
    family = FindingsFamily(Task.FINDINGS, Task.SUMMARIZE)
    draft = drafted(family, replace(FINDINGS_ONLY, summarizer=""))
    assert draft.impression_text == "Small left pleural effusion."
    assert (draft.impression_source, draft.impression_model) == (ImpressionSource.SUMMARY, "")
    assert family.asked[-1].text == FINDINGS
    (support,) = (one for one in draft.supports if one.section == "impression")
    assert (support.source, support.image) == ("findings", None), "no image was looked at for it"


def test_a_second_model_summarises() -> None:
    other = FindingsFamily(Task.SUMMARIZE)
    draft = drafted(
        FindingsFamily(Task.FINDINGS), replace(FINDINGS_ONLY, summarizer="small"), others={"small": other}
    )
    assert draft.impression_text == "Small left pleural effusion."
    assert draft.impression_model == "findings-only"
    assert other.asked[0].text == FINDINGS


@pytest.mark.parametrize("summary", ["", "cut", "Impression:"])
def test_a_summary_that_fails_leaves_the_draft_and_a_warning(summary: str) -> None:
    other = FindingsFamily(Task.SUMMARIZE, summary=summary)
    draft = drafted(
        FindingsFamily(Task.FINDINGS), replace(FINDINGS_ONLY, summarizer="small"), others={"small": other}
    )
    assert (draft.impression_text, draft.impression_source) == ("", ImpressionSource.UNWRITTEN)
    (remark,) = draft.remarks
    assert remark.verdict is Verdict.WARNED
    assert "summar" in remark.message


def test_a_model_of_both_sections_that_writes_one_fails_unless_the_site_says_who_concludes() -> None:
    both = DraftPlan(Task.FINDINGS)
    drafter = Drafter(FindingsFamily(Task.FINDINGS), ENGLISH, "code", plan=both)
    (failure,) = drafter.write(drafter.encode([film_study(1)]))
    assert isinstance(failure, FailStudy)
    told = replace(both, summarizer="")
    assert drafted(FindingsFamily(Task.FINDINGS, Task.SUMMARIZE), told).impression_text


def test_a_plan_enters_the_recipe_and_a_summariser_has_to_summarise() -> None:
    family = FindingsFamily(Task.FINDINGS, Task.SUMMARIZE)
    plans = [FINDINGS_ONLY, replace(FINDINGS_ONLY, summarizer=""), DraftPlan(Task.FINDINGS)]
    assert len({Drafter(family, ENGLISH, "code", plan=plan).recipe for plan in plans}) == 3
    with pytest.raises(ConfigurationError, match="does not do summarize"):
        Drafter(FindingsFamily(Task.FINDINGS), ENGLISH, "code", plan=replace(FINDINGS_ONLY, summarizer=""))


def test_what_is_stored_and_shown_is_honest_and_valid() -> None:
    unwritten = replace(DRAFT, impression_text="", impression_source=ImpressionSource.UNWRITTEN, supports=())
    resources = built(draft=unwritten)
    validate(resources)
    report = body(resources, "DiagnosticReport")
    assert "conclusion" not in report
    assert report["_conclusion"]["extension"][0]["valueCode"] == "not-performed"
    impression = body(resources, "Observation", 1)
    assert impression["code"]["coding"][0]["code"] == "19005-8"
    assert "valueString" not in impression
    assert impression["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert "<p>Not written: the model that drafted this writes findings only." in page
    assert "Machine-made draft" in page
    assert "no impression written" in body(resources, "Provenance")["activity"]["text"]
    summary = replace(DRAFT, impression_source=ImpressionSource.SUMMARY, impression_model="smollm2-135m")
    resources = built(draft=summary)
    validate(resources)
    assert body(resources, "DiagnosticReport")["conclusion"] == DRAFT.impression_text
    (note,) = body(resources, "Observation", 1)["note"]
    assert note["text"].startswith("The impression was written by smollm2-135m from the text of the findings")


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("**Findings:** Clear lungs.\n\n**Impression:** Normal.", ("Clear lungs.", "Normal.")),
        ("FINDINGS: Clear lungs. IMPRESSION: Normal.", ("Clear lungs.", "Normal.")),
        ("影像诊断：双肺清晰。影像结论：未见异常。", ("双肺清晰。", "未见异常。")),
        ("影像所见：双肺清晰。\n影像结论：未见异常。", ("双肺清晰。", "未见异常。")),
    ],
)
def test_headings_as_models_write_them(text: str, sections: tuple[str, str]) -> None:
    assert split_sections(text) == sections
    assert split_sections(text, Sections.FINDINGS) == sections


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("Clear lungs.", ("Clear lungs.", "")),
        ("Findings: Clear lungs.", ("Clear lungs.", "")),
        ("Clear lungs. Impression: Normal.", ("Clear lungs.", "Normal.")),
        ("Findings: Clear lungs.\nImpression: .", ("Clear lungs.", "")),
        ("The impression: of a mass.", ("The impression: of a mass.", "")),
    ],
)
def test_findings_alone(text: str, sections: tuple[str, str]) -> None:
    assert split_sections(text, Sections.CAPTION) == sections
    with pytest.raises(FailStudy):
        split_sections(text)


def test_a_text_without_words_is_no_draft() -> None:
    for text in ("", " . ", "Findings: -"):
        with pytest.raises(FailStudy, match="no words"):
            parse_draft(text, held=Sections.FINDINGS)
    assert summary_text("**IMPRESSION:** Normal.") == "Normal."
    assert summary_text("影像结论：正常。") == "正常。"


def test_grounded_sentences_give_their_findings_a_region() -> None:
    left, right = (Region(IMAGE.ref, 0, x, 10, x + 20, 40) for x in (70, 10))
    stated = Finding(
        "pleural_effusion", present=True, side=Side.LEFT, sentence="Small left pleural effusion."
    )
    maira = [Place("Small left pleural effusion.", left, text="Small left pleural effusion.")]
    assert placed(stated, maira, [IMAGE]).region == left
    organs = [
        Place(f"{side} lung", at, text=stated.sentence) for side, at in (("left", left), ("right", right))
    ]
    assert placed(stated, organs, [IMAGE]).region == left, "the other lung is not where it is"
    assert placed(replace(stated, side=None), organs, [IMAGE]).region == Region(IMAGE.ref, 0, 10, 10, 90, 40)
    assert placed(replace(stated, present=False), organs, [IMAGE]).region is None
    outside = [replace(maira[0], region=Region(IMAGE.ref, 0, 70, 10, 200, 40))]
    assert placed(stated, outside, [IMAGE]).region is None
    assert (
        placed(stated, [Place("Clear right lung.", right, text="Clear right lung.")], [IMAGE]).region is None
    )


FINDING, CONCLUSION = "Small left effusion.", "Effusion."
WRITTEN = [
    ("medrega", "report", ENGLISH, f"Findings: {FINDING}\nImpression: {CONCLUSION}", CONCLUSION),
    ("medrega", "report", CHINESE, "影像诊断：左侧少量胸腔积液。\n影像结论：胸腔积液。", "胸腔积液。"),
    ("medrega", "report-iu", ENGLISH, FINDING, ""),
    ("lingshu-7b", "report", ENGLISH, f"Findings: {FINDING} Impressions: {CONCLUSION}", CONCLUSION),
    ("chexone", "findings", ENGLISH, rf"I look. \boxed{{{FINDING}}}", ""),
    ("chexone", "findings-instruct", ENGLISH, FINDING, ""),
    ("umit", "report", ENGLISH, FINDING, ""),
    ("llava-med", "report", ENGLISH, f"{FINDING}\n\n**Impression:** {CONCLUSION}", CONCLUSION),
    ("medgemma-4b-it", "report", ENGLISH, f"**Findings:**\n{FINDING}\n\n**Impression:**\n{CONCLUSION}", CONCLUSION),
    ("medgemma-4b-it", "findings", ENGLISH, FINDING, ""),
    ("maira-2", "findings", ENGLISH, FINDING, ""),
    (
        "maira-2", "grounded_report", ENGLISH,
        "<obj>Small left effusion. <box><x60><y70><x80><y90></box></obj>", "",
    ),
    ("chexagent-2", "findings", ENGLISH, f"Findings:\n{FINDING}", ""),
    ("llava-rad", "findings", ENGLISH, FINDING, ""),
    ("hulu-med-7b", "report", ENGLISH, f"Findings: {FINDING}\nImpression: {CONCLUSION}", CONCLUSION),
    ("hulu-med-7b", "report", ENGLISH, FINDING, ""),
    ("openai-endpoint", "report", ENGLISH, f"FINDINGS: {FINDING}\nIMPRESSION: {CONCLUSION}", CONCLUSION),
]  # fmt: skip


@pytest.mark.parametrize(("model", "wording", "language", "text", "impression"), WRITTEN)
def test_what_each_system_writes_becomes_a_draft(
    model: str, wording: str, language: Language, text: str, impression: str
) -> None:
    entry = show(model)
    plan = draft_plan(entry, language, wording, "none" if not impression else "")
    read = wording_of(entry).read(text, Request(plan.task, language, variant=plan.variant), [IMAGE])
    draft = parse_draft(read.text, held=Sections.BOTH if plan.strict else Sections.FINDINGS)
    stated = "左侧少量胸腔积液。" if language is CHINESE else FINDING
    assert (draft.findings_text, draft.impression_text) == (stated, impression)
    (finding,) = draft.findings
    assert (finding.kind, finding.side) == ("pleural_effusion", Side.LEFT)
    grounded = wording == "grounded_report"
    assert (placed(finding, read.places, [IMAGE]).region is not None) == grounded


def test_every_system_that_writes_reports_says_how_it_drafts() -> None:
    writing = {Task.REPORT, Task.FINDINGS, Task.GROUNDED_REPORT}
    for entry in list_models():
        assert bool(entry.drafts) == bool(writing & set(entry.tasks)), entry.id
        texts = read_wordings(entry.prompts).texts if entry.prompts else {}
        for name in entry.drafts:
            worded = (name, ENGLISH) in texts
            assert worded or entry.adapter == "nnunet", (entry.id, name)
            assert task_of(name) in entry.tasks
        if entry.drafts:
            plan = draft_plan(entry, ENGLISH)
            own = plan.held is not Sections.BOTH and Task.SUMMARIZE in entry.tasks
            assert plan.summarizer == ("" if own else None), entry.id


def test_a_plan_that_a_family_cannot_keep_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="writes no report of images"):
        draft_plan(show("ming-7b"), ENGLISH)
    with pytest.raises(ConfigurationError, match=r"no wording 'report-iu' .*grounded_report"):
        draft_plan(show("maira-2"), ENGLISH, "report-iu")
    with pytest.raises(ConfigurationError, match="umit does not report in zh"):
        draft_plan(show("umit"), CHINESE)
    assert draft_plan(show("medrega"), ENGLISH, "report-iu") == DraftPlan(
        Task.REPORT, "report-iu", Sections.FINDINGS
    )
    with pytest.raises(ConfigurationError, match="no wording 'report-iu' in zh"):
        draft_plan(show("medrega"), CHINESE, "report-iu")
    assert draft_plan(show("chexone"), ENGLISH, impression="none").summarizer is None
    with pytest.raises(ConfigurationError, match=r"no \[models.small\]"):
        open_drafter(ModelChoice("maira-2", impression="small"), cache_dir=Path("never"))
