"""Counting answers: each count on a hand-made case whose result is known."""

import pytest

from models.simulation.task_texts import PlacedFact, StudyFacts
from models.training.label_reader import StatedFinding, read_report
from models.training.scoring import score_reports
from models.training.task_scoring import (
    overlap,
    score_classes,
    score_detect,
    score_exact,
    score_grounded,
    score_landmarks,
    score_questions,
    score_summaries,
)
from models.vocabulary.english import FindingFact

EFFUSION = PlacedFact(FindingFact("pleural_effusion", "left", "small"), (60, 60, 90, 90))
NODULE = PlacedFact(FindingFact("nodule", "right", "large", "upper"), (10, 10, 20, 20))
SICK, NORMAL = StudyFacts((EFFUSION, NODULE)), StudyFacts(())


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)


def test_regions_count_only_where_the_finding_is_stated_on_its_side() -> None:
    right = (
        "Findings: There is a mass in the right upper zone {<10><10><20><20>}. "
        "There is a small left pleural effusion {<0><0><9><9>}."
    )
    wrong_side = "Findings: There is a small right pleural effusion {<60><60><90><90>}. No nodule is seen."
    outcome = score_grounded([right, wrong_side], [SICK, SICK])
    assert (outcome["counted"], outcome["present"], outcome["region_at_half"]) == (2, 4, 0.5)
    chinese = "检查所见：右肺上野见肿块影{<10><10><20><20>}。未见胸腔积液。"
    assert score_grounded([chinese], [SICK])["region_at_half"] == 1
    assert score_grounded(["", "unreadable"], [SICK, SICK])["region_at_half"] == 0


def test_detection_counts_boxes_and_absences() -> None:
    outcome = score_detect(
        [
            ("{<60><60><90><90>}", [EFFUSION.box]),
            ("No pleural effusion.", [EFFUSION.box]),
            ("{<0><0><5><5>}", [NODULE.box]),
            ("No pneumothorax.", []),
            ("", []),
            ("{<0><0><5><5>}", []),
        ]
    )
    assert outcome["region_at_half_of_present"] == pytest.approx(1 / 3, abs=1e-3)
    assert outcome["region_at_half_of_found"] == 0.5
    assert outcome["found"] == pytest.approx(2 / 3, abs=1e-3)
    assert outcome["absent_as_absent"] == pytest.approx(1 / 3, abs=1e-3)


def test_questions_are_counted_by_form() -> None:
    outcome = score_questions(
        ["Yes.", "No.", "yes.", "Right."],
        ["Yes.", "Yes.", "Yes.", "Left."],
        ["presence", "presence", "normal", "side"],
    )
    shares = [outcome[name] for name in ("closed", "open", "presence")]
    assert shares == pytest.approx([2 / 3, 0, 0.5], abs=1e-3)
    assert score_exact(["a.", "B."], ["A.", "c."]) == 0.5


def test_classes_are_counted_label_by_label() -> None:
    labels = ("nodule", "pneumothorax", "normal")
    outcome = score_classes(
        [
            ("Nodule.", labels, SICK),
            ("Normal.", labels, NORMAL),
            ("Nodule.", labels, NORMAL),
            ("?", labels, SICK),
        ]
    )
    assert outcome["label_accuracy"] == pytest.approx((3 + 3 + 1 + 0) / 12, abs=1e-3)
    assert outcome["exact_set"] == 0.5
    assert outcome["nothing_chosen"] == pytest.approx(8 / 12, abs=1e-3)


def test_landmarks_count_within_five_hundredths() -> None:
    outcome = score_landmarks(
        [
            ("{<50><40>}", "carina", (53, 44)),
            ("{<50><40>}", "carina", (54, 44)),
            ("no idea", "left_apex", (1, 1)),
        ]
    )
    assert (outcome["carina"], outcome["left_apex"]) == (0.5, 0)


def test_summaries_must_say_all_and_nothing_else() -> None:
    good = "Mass in the right upper zone. Small left pleural effusion."
    outcome = score_summaries(
        [
            good,
            good.replace("Small", "Large"),
            good + " Mild cardiomegaly.",
            "No acute cardiopulmonary abnormality.",
            "",
        ],
        [SICK, SICK, SICK, NORMAL, NORMAL],
    )
    assert (outcome["findings_and_sides"], outcome["with_severity"]) == (0.6, 0.4)


def test_changes_and_comparisons_are_counted() -> None:
    report = (
        "Findings: There is a small left pleural effusion, new since the prior film.\nImpression: Effusion."
    )
    known = FindingFact("pleural_effusion", "left", "small", change="new")
    score = score_reports([report, report], [[known], [FindingFact("pleural_effusion", "left", "small")]])
    assert (score.change_of_found, score.compared, score.depth_of_found) == (1, 1, 0)
    other = score_reports([report.replace("new", "unchanged")], [[known]])
    assert other.change_of_found == 0


def test_a_chinese_report_is_read() -> None:
    text = "检查所见：双肺野清晰。右侧胸腔见大量积液，较前片增多。未见气胸。心影大小正常。\n印象：右侧大量胸腔积液。"
    assert read_report(text)[2] == StatedFinding("pleural_effusion", True, "right", "large", "", "increased")
    assert {one.kind for one in read_report(text) if not one.present} == {
        "nodule",
        "consolidation",
        "pneumothorax",
        "cardiomegaly",
    }
