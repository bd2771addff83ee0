"""Sides: of the sections against each other, and against the region."""

import pytest

from pipeline.report import Finding, Language, Region, Side, Verdict
from tests.check_drafts import REF, draft, film, spoken, verdicts

PLANTED = [
    ("laterality", "failed", "There is a small left pleural effusion.", "Small right pleural effusion."),
    ("laterality", "failed", "There is a nodule in the left upper zone.", "Nodule in the right upper zone."),
    ("laterality", "failed", "There is a small left pneumothorax.", "Bilateral pneumothoraces."),
    ("laterality", "warned", "Bilateral pleural effusions are present.", "Left pleural effusion."),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


WORDINGS = [
    ("Elevation of the right hemidiaphragm.", "Elevated left hemidiaphragm."),
    ("Lingular consolidation.", "Right-sided pneumonia."),
    ("RUL opacity.", "Opacity in the left upper lobe."),
    ("The right hilum is enlarged.", "Left hilar enlargement."),
    ("Left apical pleural thickening.", "Right apical pleural thickening."),
    ("Right chest tube in place.", "Left chest tube in place."),
    ("Surgical clips in the left axilla.", "Right axillary clips."),
    ("Opacity in the right base. The left lung is clear.", "Left basal pneumonia."),
    ("Right shoulder prosthesis. Left lung is clear.", "Left shoulder prosthesis."),
    ("右肺中叶斑片影。", "左肺炎症。"),
    ("右侧膈面抬高。", "左侧膈肌抬高。"),
    ("左侧胸膜增厚。", "右侧胸膜肥厚。"),
    ("两肺门影增浓，右侧液气胸。", "左侧液气胸。"),
    ("左肺大片实变影，纵隔向左移位。", "右肺不张。"),
    ("右锁骨骨折。", "左锁骨骨折。"),
    ("左乳术后改变。", "右乳术后改变。"),
    ("左肺上叶空洞。", "右肺上叶空洞。"),
]


@pytest.mark.parametrize(("findings", "impression"), WORDINGS)
def test_other_words_for_it_are_read(findings: str, impression: str) -> None:
    assert "laterality" in verdicts(spoken(findings, impression))


def test_the_size_of_one_of_two_findings_and_the_side_of_a_hilum_are_read() -> None:
    made = draft("A large left pleural effusion with adjacent atelectasis.", "Trace left pleural effusion.")
    assert verdicts(made) == {"contradiction": Verdict.WARNED}
    for findings, impression in (
        ("Mass in the right hilum.", "Left hilar mass."),
        ("右肺门肿块影。", "左肺门肿块。"),
    ):
        language = Language.ENGLISH if findings.isascii() else Language.CHINESE
        made = draft(findings, impression, language=language)
        assert verdicts(made) == {"laterality": Verdict.FAILED}
    made = draft("The right hilum is prominent with a left effusion.", "Left effusion.")
    assert verdicts(made) == {}


@pytest.mark.parametrize(
    ("side", "x0", "x1", "view", "expected"),
    [
        (Side.LEFT, 1000, 1500, "PA", None),
        (Side.LEFT, 100, 500, "PA", Verdict.FAILED),
        (Side.RIGHT, 1000, 1500, "AP", Verdict.FAILED),
        (Side.RIGHT, 100, 500, "AP", None),
        (Side.LEFT, 100, 500, "", Verdict.WARNED),
        (Side.LEFT, 100, 500, "LL", None),
        (Side.LEFT, 400, 900, "PA", Verdict.WARNED),
        (Side.BILATERAL, 100, 500, "PA", None),
        (Side.LEFT, 700, 810, "PA", None),
    ],
)
def test_the_region_is_on_the_side_the_text_says(
    side: Side, x0: float, x1: float, view: str, expected: Verdict | None
) -> None:
    finding = Finding("pleural_effusion", True, side, region=Region(REF, 0, x0, 1200, x1, 1900))
    made = draft("There is a pleural effusion.", "Pleural effusion.", findings=(finding,))
    assert verdicts(made, image=film(view=view)).get("laterality") == expected


@pytest.mark.parametrize(
    ("findings", "impression", "verdict"),
    [
        ("Right opacity compatible with pneumonia.", "Left pneumonia.", Verdict.FAILED),
        ("Right effusion with adjacent atelectasis.", "Left atelectasis.", Verdict.FAILED),
        ("Effusions, right greater than left.", "Bilateral effusions.", None),
        ("Left effusion with shift of the trachea to the right.", "Left effusion.", None),
        ("Right pneumothorax. The pneumothorax is small.", "Left pneumothorax.", Verdict.WARNED),
        ("Right arm hardware.", "Left arm hardware.", Verdict.WARNED),
        ("左侧胸腔大量积液，纵隔向右移位。", "左侧胸腔积液。", None),
        ("结节约3cm左右，位于右肺。", "右肺结节。", None),
    ],
)
def test_a_side_belongs_to_what_it_is_said_of(
    findings: str, impression: str, verdict: Verdict | None
) -> None:
    assert verdicts(spoken(findings, impression)).get("laterality") == verdict
