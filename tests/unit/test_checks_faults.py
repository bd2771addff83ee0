"""Whatever the text: no check raises or takes long, messages hold no report text, and hard faults refuse a draft."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checks import CHECKS, refuse_if_failed, run_checks
from pipeline.errors import FailStudy
from pipeline.report import Language, Verdict
from pipeline.study import ImageSet
from tests.check_drafts import CONTEXT, NOTHING, draft, film, verdicts


def test_a_chinese_draft() -> None:
    clean = draft(
        "右肺上野见小结节。未见胸腔积液及气胸。心影不大。", "右肺上野小结节。", language=Language.CHINESE
    )
    assert verdicts(clean) == {}
    wrong_side = draft("右侧少量胸腔积液。", "左侧胸腔积液。", language=Language.CHINESE)
    assert verdicts(wrong_side) == {"laterality": Verdict.FAILED}
    denied = draft("未见气胸。", "左侧气胸。", language=Language.CHINESE)
    assert verdicts(denied) == {"contradiction": Verdict.FAILED}
    prior = draft("较前片未见明显变化。", "心肺未见异常。", language=Language.CHINESE)
    assert verdicts(prior)["comparison"] is Verdict.FAILED
    english = draft("The lungs are clear.", NOTHING, language=Language.CHINESE)
    assert verdicts(english)["language"] is Verdict.FAILED


def test_refusal_names_only_the_hard_checks() -> None:
    made = draft("There is a new small left pneumothorax.", "Small right pneumothorax.")
    outcomes = run_checks(made, ImageSet("1.2.3", (film(),)), CONTEXT)
    with pytest.raises(FailStudy) as caught:
        refuse_if_failed(outcomes)
    assert caught.value.code == "check-failed"
    assert "laterality" in caught.value.message
    assert "comparison" not in caught.value.message
    refuse_if_failed(outcome for outcome in outcomes if outcome.verdict is not Verdict.FAILED)


WORDS = st.sampled_from(
    (
        *(
            "No",
            "no",
            "left",
            "right",
            "bilateral",
            "pleural effusion",
            "pneumothorax",
            "mass",
            "heart",
            "enlarged",
        ),
        *(
            ".",
            ",",
            ";",
            ":",
            "3.5",
            "cm",
            "unchanged",
            "左",
            "右",
            "未见",
            "气胸",
            "。",
            "and",
            "without",
            "but",
        ),
        *("cannot", "exclude", "99999999", "x", "\n", "-", "HU", "CT"),
    )
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(), st.lists(WORDS, max_size=60).map(" ".join)),
    st.one_of(st.text(), st.lists(WORDS, max_size=60).map(" ".join)),
    st.sampled_from(Language),
)
def test_no_text_makes_a_check_raise(findings: str, impression: str, language: Language) -> None:
    made = draft(findings, impression, language=language)
    outcomes = run_checks(made, ImageSet("1.2.3", (film(),)), CONTEXT)
    assert len(outcomes) == len(CHECKS)
    assert all(outcome.message for outcome in outcomes if outcome.verdict is not Verdict.PASSED)


@pytest.mark.parametrize(
    "text", ["\ud800 lone surrogate.", "no " * 20_000, "heart " * 9_000, "9" * 30_000 + " mm", "， " * 20_000]
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    assert verdicts(draft(text, text))


def test_messages_hold_no_report_text() -> None:
    made = draft(
        "Jane Doe 1.2.3 has no left effusion. 12 cm unchanged femur.", "Left effusion for Jane Doe 1.2.3."
    )
    for outcome in run_checks(made, ImageSet("1.2.3", (film(spacing=None),)), CONTEXT):
        assert not any(word in outcome.message for word in ("Jane", "Doe", "1.2.3", "femur"))
