"""Against images and request: other parts, regions, the classifier, leaks, age and sex."""

import pytest

from pipeline.checks import run_checks
from pipeline.report import Finding, Region, Verdict
from pipeline.study import TOLD_ON_THE_REPORT, ImageSet, LeftOut, LeftOutReason
from tests.check_drafts import CONTEXT, NOTHING, REF, draft, film, verdicts

PLANTED = [
    ("body-part", "failed", "The femur is intact.", NOTHING),
    ("body-part", "failed", "CT shows clear lungs.", NOTHING),
    ("body-part", "failed", "The lateral view shows clear lungs.", NOTHING),
    ("body-part", "failed", "The brain is normal.", NOTHING),
    ("demographics", "failed", "This 20-year-old woman has clear lungs.", NOTHING),
    ("demographics", "failed", "The lungs of this man are clear.", NOTHING),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


@pytest.mark.parametrize(
    ("code", "warns"),
    [
        ("pixel-data-short", True),
        *((reason.value, reason in TOLD_ON_THE_REPORT) for reason in LeftOutReason),
    ],
)
def test_an_image_that_could_not_be_read_warns(code: str, warns: bool) -> None:
    left_out = (LeftOut("1.2.9", code, "the reason"),)
    made = draft("The lungs are clear.", "No acute abnormality.")
    outcomes = run_checks(made, ImageSet("1.2.3", (film(),), left_out), CONTEXT)
    (outcome,) = (one for one in outcomes if one.check == "images")
    assert (outcome.verdict is Verdict.WARNED) == warns


def test_a_report_in_the_prompt_fails_and_what_reads_like_one_warns() -> None:
    made = draft("The lungs are clear.", NOTHING)
    report = "Large right pneumothorax with mediastinal shift to the left."
    image_set = ImageSet("1.2.3", (film(),))
    for told, expected in (
        ({"indication": f"Pain. {report}"}, Verdict.FAILED),
        ({"indication": "Pain. Findings: clear. Impression: normal."}, Verdict.WARNED),
        ({"prior_report": "Findings: clear. Impression: normal."}, Verdict.PASSED),
        ({"indication": "Pain, pneumothorax?"}, Verdict.PASSED),
    ):
        outcomes = run_checks(made, image_set, CONTEXT, given=told, unseen=[report])
        assert next(one.verdict for one in outcomes if one.check == "leak") is expected


def test_words_of_the_classifier_that_only_the_checks_know() -> None:
    for text, kind in (("Left-sided pacer in place.", "pacemaker"), ("Airspace disease.", "consolidation")):
        assert verdicts(draft(text, text, probabilities={kind: 0.99})) == {}
        assert verdicts(draft(text, text, probabilities={"nodule": 0.99})) == {"classifier": Verdict.WARNED}


def test_a_lateral_view_that_was_seen_may_be_described() -> None:
    made = draft("The lateral view shows clear lungs.", NOTHING)
    assert verdicts(made, image=film(view="LL")) == {}


@pytest.mark.parametrize("box", [(0, 0, 1601, 10), (-1, 0, 10, 10), (10, 10, 10, 20), (0, 1990, 5, 2001)])
def test_a_region_outside_its_image_fails(box: tuple[float, float, float, float]) -> None:
    finding = Finding("nodule", True, None, region=Region(REF, 0, *box))
    made = draft("There is a nodule.", "Nodule.", findings=(finding,))
    assert verdicts(made) == {"region": Verdict.FAILED}


def test_a_region_on_an_unseen_frame_fails() -> None:
    finding = Finding("nodule", True, None, region=Region(REF, 1, 0, 0, 9, 9))
    assert verdicts(draft("There is a nodule.", "Nodule.", findings=(finding,))) == {"region": Verdict.FAILED}


@pytest.mark.parametrize(
    ("present", "probability", "expected"),
    [(True, 0.02, Verdict.WARNED), (True, 0.6, None), (False, 0.99, Verdict.WARNED), (False, 0.6, None)],
)
def test_a_classifier_that_disagrees_warns(
    present: bool, probability: float, expected: Verdict | None
) -> None:
    stated = (Finding("nodule", present),)
    made = draft("Text.", "Text.", findings=stated, probabilities={"nodule": probability})
    assert verdicts(made).get("classifier") == expected
