"""Negations that deny, doubt or speak of change, in English and Chinese; sentences that rest on nothing."""

from datetime import UTC, datetime

import pytest

from pipeline.checks import run_checks
from pipeline.checks.reading import mentions
from pipeline.report import DraftReport, Language, Provenance, Support, Verdict
from pipeline.study import ImageSet, InstanceRef
from pipeline.study_context import PatientIdentity, StudyContext

REF = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5")
WHEN = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sentence", "present", "doubtful"),
    [
        ("No pneumothorax is seen.", False, False),
        ("The pneumothorax is no longer seen.", False, False),
        ("The left effusion is no longer visible.", False, False),
        ("Pneumonia is not excluded.", None, True),
        ("Pneumonia cannot be excluded.", None, True),
        ("Left pleural effusion without change.", True, False),
        ("Without significant change of the left pleural effusion.", True, False),
        ("No change in the right pneumothorax.", True, False),
        ("未见气胸。", False, False),
        ("左侧胸腔积液未见明显变化。", True, False),
        ("未见明显变化，左侧胸腔积液。", True, False),
        ("左侧胸腔积液较前无明显变化。", True, False),
        ("肺炎未除外。", None, True),
        ("肺炎不除外。", None, True),
        ("肺炎不能完全除外。", None, True),
        ("气胸已排除。", False, False),
        ("右侧胸腔积液较前减少。", True, False),
        ("Interval resolution of the right effusion.", False, False),
        ("Partial resolution of the right effusion.", True, False),
        ("The left effusion has completely resolved.", False, False),
    ],
)
def test_negations_and_what_only_looks_like_one(sentence: str, present: bool | None, doubtful: bool) -> None:
    (mention,) = mentions(sentence)
    assert mention.doubtful == doubtful
    if present is not None:
        assert mention.present == present


def test_a_sentence_that_rests_on_nothing_is_warned_about() -> None:
    made = _draft((Support("findings", "There is a left pneumothorax."),))
    assert _outcome(made) is Verdict.WARNED
    for resting in (
        Support("findings", "There is a left pneumothorax.", image=REF),
        Support("findings", "There is a left pneumothorax.", source="indication"),
    ):
        assert _outcome(
            _draft((resting, Support("impression", "Left pneumothorax.", source="findings")))
        ) is (Verdict.PASSED)
    assert _outcome(_draft(())) is Verdict.PASSED


def _draft(supports: tuple[Support, ...]) -> DraftReport:
    return DraftReport(
        study_instance_uid="1.2.3",
        language=Language.ENGLISH,
        findings_text="There is a left pneumothorax. The heart is not enlarged.",
        impression_text="Left pneumothorax.",
        findings=(),
        probabilities={},
        images=(REF,),
        provenance=Provenance("m", "1", "r", "torch", WHEN, WHEN),
        supports=supports,
    )


def _outcome(made: DraftReport) -> Verdict:
    context = StudyContext("1.2.3", PatientIdentity("P1", "", (), None, ""), started=WHEN)
    outcomes = run_checks(made, ImageSet("1.2.3", ()), context)
    return next(one.verdict for one in outcomes if one.check == "supported")
