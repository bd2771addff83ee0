"""Words of comparison and of change, with an earlier study and without one."""

from datetime import date

import pytest

from pipeline.report import Language, PriorStudy, Verdict
from tests.check_drafts import NOTHING, draft, spoken, verdicts

PLANTED = [
    ("comparison", "failed", "The cardiac silhouette is unchanged.", NOTHING),
    ("comparison", "failed", "Compared with the prior study, the lungs are clear.", NOTHING),
    ("comparison", "failed", "No interval change.", NOTHING),
    ("comparison", "warned", "There is a new left pleural effusion.", "New left pleural effusion."),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


WORDINGS = [
    ("The left effusion has diminished.", "Small effusion."),
    ("Since surgery there has been re-expansion of the lung.", "Lung re-expanded."),
    ("Redemonstrated right nodule.", "Nodule."),
    ("The opacity is less conspicuous than it was.", "Opacity."),
    ("The right PICC has been removed.", "No line."),
    ("Film of two days ago showed no effusion.", "Effusion."),
    ("Opacity persists at the base.", "Opacity."),
    ("对照旧片，病灶缩小。", "病灶。"),
    ("病变范围较老片扩大。", "肺炎。"),
    ("右下肺病灶仍存在。", "右下肺病灶。"),
    ("右侧气胸基本吸收，肺复张。", "气胸。"),
    ("与上次检查相似。", "右侧积液。"),
    ("前次所示结节变化不大。", "结节。"),
    ("炎症明显消散。", "肺炎。"),
]


@pytest.mark.parametrize(("findings", "impression"), WORDINGS)
def test_other_words_for_it_are_read(findings: str, impression: str) -> None:
    assert "comparison" in verdicts(spoken(findings, impression))


def test_comparison_is_allowed_with_a_prior() -> None:
    made = draft("The cardiac silhouette is unchanged.", NOTHING)
    assert verdicts(made, has_prior=True) == {}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Compared with the film of 2025-01-02, the effusion is smaller.", None),
        ("Compared with the prior film of 1/2/2025, the effusion is smaller.", None),
        ("Compared with the prior film of January 2, 2025, the effusion is smaller.", None),
        ("Compared with the film of 2019-03-02, the effusion is smaller.", Verdict.WARNED),
        ("The effusion is unchanged since March 2, 2019.", Verdict.WARNED),
        ("与2019年3月2日片比较，积液减少。", Verdict.WARNED),
        ("No prior studies are available for comparison.", Verdict.WARNED),
        ("Compared with the film of 2 January 2025, the effusion is smaller.", None),
        ("Compared with the film of 2 March 2019, the effusion is smaller.", Verdict.WARNED),
        ("无既往片可供比较。", Verdict.WARNED),
    ],
)
def test_a_comparison_is_with_the_study_that_was_given(text: str, verdict: Verdict | None) -> None:
    given = PriorStudy("1.2.2", date(2025, 1, 2))
    language = Language.ENGLISH if text.isascii() else Language.CHINESE
    made = draft(text, text, prior=given, language=language)
    assert verdicts(made, has_prior=True).get("comparison") == verdict


@pytest.mark.parametrize(
    "text",
    [
        "The effusion has increased since yesterday.",
        "The nodule is no longer seen.",
        "Right effusion, smaller than before.",
        "Cardiomegaly since June 2019.",
        "同前，起搏器在位。",
        "左侧气胸与既往片比较基本相同。",
    ],
)
def test_words_of_comparison_without_an_earlier_study_fail(text: str) -> None:
    language = Language.ENGLISH if text.isascii() else Language.CHINESE
    assert verdicts(draft(text, text, language=language))["comparison"] is Verdict.FAILED


@pytest.mark.parametrize(
    "text",
    [
        "Comparison with previous films is recommended.",
        "No prior study is available for comparison.",
        "A short-interval follow-up film is advised.",
        "建议与旧片对比。",
        "抗炎治疗后复查。",
        "无既往影像资料对比。",
        "双肺纹理增多，较大片状影。",
        "骨质未见明显改变。",
    ],
)
def test_a_comparison_that_is_asked_for_or_was_not_possible_passes(text: str) -> None:
    assert "comparison" not in verdicts(spoken(text, text))
