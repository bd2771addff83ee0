"""A report in a model's own prompt: found, withheld, and told from what may be said of a study."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from flows.environment.workplace import Workplace
from flows.given import own_report, without_reports
from models.evaluation.answering import refuse_leak
from models.evaluation.cases import Case, Reference
from models.family import PromptContext, Task
from pipeline.errors import ConfigurationError
from pipeline.reference_leakage import holds_report, reads_like_report
from pipeline.report import Language, Verdict
from pipeline.study_context import PatientIdentity, StudyContext

REPORT = "There is a moderate right pleural effusion with adjacent atelectasis. The heart is mildly enlarged."
REPORT_ZH = "右侧胸腔见中等量积液，右肺下叶部分不张，心影轻度增大。"


@pytest.mark.parametrize(
    ("given", "report", "held"),
    [
        (f"Cough. {REPORT.upper()}", REPORT, True),
        ("known moderate RIGHT pleural effusion, with adjacent atelectasis; the heart", REPORT, True),
        ("Moderate right pleural effusion, atelectasis? The heart is enlarged.", REPORT, False),
        (" ".join(REPORT_ZH), REPORT_ZH, True),
        ("右侧胸腔积液？心影轻度增大？", REPORT_ZH, False),
        ("No acute abnormality.", "No acute abnormality.", False),
        ("Cough. Mild cardiomegaly without acute disease", f"Findings: {REPORT} Impression: "
         "Mild cardiomegaly without acute disease.", True),
        ("", REPORT, False),
        (REPORT, "", False),
    ],
)  # fmt: skip
def test_a_report_in_a_given_text(given: str, report: str, held: bool) -> None:
    assert holds_report(given, report) is held


def test_a_text_that_shares_sentences_by_right_is_looked_at_whole() -> None:
    earlier = "There is a moderate right pleural effusion with adjacent atelectasis. Nothing else."
    assert holds_report(earlier, REPORT)
    assert not holds_report(earlier, REPORT, parts=False)
    assert holds_report(f"Earlier: {REPORT}", REPORT, parts=False)


def test_a_text_with_both_headings_reads_like_a_report() -> None:
    assert reads_like_report("Cough. FINDINGS: Effusion. IMPRESSION: Effusion.")
    assert reads_like_report("检查所见：积液。诊断意见：积液。")
    assert not reads_like_report("Findings on outside CT: nodule. My impression is asthma.")
    assert not reads_like_report("Impression: asthma. Findings: none")


def test_what_holds_a_report_of_the_study_is_withheld_and_said_so() -> None:
    given = PromptContext("Cough. " + REPORT, "Chest radiograph, PA.", "", "IMPRESSION: Clear.")
    told, (remark,) = without_reports(given, (REPORT,))
    assert told == PromptContext("", "Chest radiograph, PA.", "", "IMPRESSION: Clear.")
    assert remark.verdict is Verdict.WARNED
    assert "indication" in remark.message
    assert "effusion" not in remark.message
    assert without_reports(given, ()) == (given, ())
    (told, remarks) = without_reports(PromptContext("Findings: clear. Impression: normal."), ())
    assert (told, len(remarks)) == (PromptContext(), 1)


@pytest.mark.parametrize(("status", "texts"), [("final", (REPORT,)), ("partial", ()), ("", ())])
def test_only_what_a_radiologist_has_signed_of_this_study_is_a_report(
    status: str, texts: tuple[str, ...]
) -> None:
    held = SimpleNamespace(body=orjson.dumps({"status": status, "conclusion": REPORT}).decode())
    read: list[tuple[str, ...]] = []

    def answer(*asked: str) -> Any:
        read.append(asked)
        return held if status else None

    workplace = cast("Workplace", SimpleNamespace(store=SimpleNamespace(read=answer)))
    assert own_report(workplace, "main", StudyContext("1.2", PatientIdentity())) == texts
    assert read[0][0] == "DiagnosticReport"


@pytest.mark.parametrize(
    ("field", "refused"),
    [("indication", True), ("technique", True), ("comparison", True), ("prior_report", False)],
)
def test_a_data_set_that_gives_away_most_of_a_reference_is_refused(field: str, refused: bool) -> None:
    part = "Seen: moderate right pleural effusion with adjacent atelectasis. The heart"
    case = Case(
        "1", "1", (Path("a.png"),), ("PA",), Task.REPORT, Language.ENGLISH, Reference(REPORT), "test",
        context=PromptContext(**{field: part}),
    )  # fmt: skip
    if refused:
        with pytest.raises(ConfigurationError, match="holds the reference"):
            refuse_leak(case)
    else:
        refuse_leak(case)
