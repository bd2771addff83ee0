"""Findings against Impression: what is stated and denied, and its size and place."""

import pytest

from pipeline.report import Verdict
from tests.check_drafts import NOTHING, draft, spoken, verdicts

PLANTED = [
    ("contradiction", "failed", "No pleural effusion.", "Small left pleural effusion."),
    ("contradiction", "failed", "There is a small left pneumothorax.", "No pneumothorax."),
    (
        "contradiction",
        "failed",
        "No pneumothorax. There is a small left pneumothorax.",
        "Small left pneumothorax.",
    ),
    ("contradiction", "failed", "The lungs are clear.", "Consolidation in the left lower zone."),
    ("contradiction", "failed", "The heart is not enlarged.", "Marked cardiomegaly."),
    ("contradiction", "failed", "There is a moderate right pneumothorax.", NOTHING),
    ("contradiction", "failed", "The heart does not appear enlarged.", "Mild cardiomegaly."),
    ("contradiction", "failed", "There is an acute left rib fracture.", NOTHING),
    ("contradiction", "warned", "The heart is not enlarged.", "Left pacemaker in place."),
    (
        "contradiction",
        "warned",
        "Consolidation in the right upper zone.",
        "Consolidation in the right mid zone.",
    ),
    ("contradiction", "warned", "There is a small left pleural effusion.", "Large left pleural effusion."),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


WORDINGS = [
    ("No pleural fluid is appreciated. The costophrenic angles are sharp.", "Right hydrothorax."),
    ("The thoracic cage is intact and ribs are normal.", "Fracture of the left eighth rib."),
    ("The trachea is central.", "Tracheal deviation to the right."),
    ("Cavitating lesion in the right upper lobe.", "No cavitation is seen."),
    ("There is free air beneath the right hemidiaphragm.", "Unremarkable chest x-ray."),
    ("The chest drain is in place.", "No chest tube is identified."),
    ("The mediastinal silhouette is normal.", "Widened mediastinum."),
    ("Lung fields are clear.", "Bilateral infiltrates."),
    ("Normal-sized heart.", "The heart is moderately enlarged."),
    ("Apical PTX on the right.", "The exam is within normal limits."),
    ("双侧肋膈角锐利。", "左侧胸水。"),
    ("右肺上叶空洞影。", "右肺未见空洞。"),
    ("双侧膈面光滑，膈下未见游离气体。", "膈下游离气体。"),
    ("纵隔不宽。", "纵隔增宽。"),
    ("双肺门不大。", "双肺门增大。"),
    ("双肺清晰。", "双肺炎症。"),
    ("右侧液气胸。", "心肺膈未见明显异常。"),
    ("气管居中。", "气管左移。"),
    ("所示骨质未见明显异常。", "右侧锁骨骨折。"),
    ("左上肺肺大疱。", "未见肺大疱。"),
    ("胸膜未见增厚。", "右侧胸膜增厚。"),
    ("右下肺实变。", "胸部X线检查未见异常。"),
]


@pytest.mark.parametrize(("findings", "impression"), WORDINGS)
def test_other_words_for_it_are_read(findings: str, impression: str) -> None:
    assert "contradiction" in verdicts(spoken(findings, impression))


@pytest.mark.parametrize(
    ("findings", "impression", "verdict"),
    [
        ("The costophrenic angles are sharp.", "Small effusion.", Verdict.WARNED),
        ("No fracture. A healed right clavicle fracture is noted.", "Old fracture.", Verdict.WARNED),
        ("No large effusion.", "Large effusion.", Verdict.FAILED),
        ("No large effusion. A trace effusion is seen.", "Trace effusion.", None),
        ("The upper zones hold no nodule.", "Lower zone nodule.", None),
        ("The right lung is clear.", "Right pneumonia.", Verdict.FAILED),
        ("The right lung is clear. Left opacity.", "Left pneumonia.", None),
        ("双侧未见胸腔积液。", "胸腔积液。", Verdict.FAILED),
        ("双肺未见实变，左侧胸腔积液。", "左侧胸腔积液。", None),
    ],
)
def test_a_denial_reaches_as_far_as_its_words(
    findings: str, impression: str, verdict: Verdict | None
) -> None:
    assert verdicts(spoken(findings, impression)).get("contradiction") == verdict
