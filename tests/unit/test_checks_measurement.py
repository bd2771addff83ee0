"""Lengths, volumes and densities against what the images can bear."""
# ruff: noqa: RUF001  Chinese punctuation is part of reports.

import pytest

from pipeline.checks import run_checks
from pipeline.report import Language, Verdict
from pipeline.study import ImageSet
from tests.check_drafts import CONTEXT, NOTHING, draft, film, verdicts

PLANTED = [
    ("measurement", "failed", "A 55 cm mass projects over the left mid zone.", "Left mid zone mass."),
    ("measurement", "failed", "Attenuation of 40 HU in the left lung.", NOTHING),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


@pytest.mark.parametrize(
    "text",
    [
        "右肺上叶见12mm结节。",
        "积液约500毫升。",
        "CT值约35HU。",
        "气管插管距隆突约四厘米。",
        "The effusion holds 500 mL.",
        "A half-inch nodule is seen.",
        "A nodule of 2 inches is seen.",
        "A sub-centimetre nodule is seen.",
        "The effusion holds about 1.5 L.",
        "肿块约３．５ｃｍ。",
        "胸膜线距胸壁约两横指。",
        "积液约三百毫升。",
    ],
)
def test_lengths_volumes_and_densities_as_they_are_written(text: str) -> None:
    language = Language.ENGLISH if text.isascii() else Language.CHINESE
    made = draft(text, text, language=language)
    assert verdicts(made, image=film(spacing=None))["measurement"] is Verdict.FAILED


def test_a_length_that_the_model_was_given_is_repeated_not_measured() -> None:
    made = draft("The 12 mm nodule in the right upper zone is seen.", "Nodule in the right upper zone.")
    image_set = ImageSet("1.2.3", (film(spacing=None),))
    for told, expected in (("Known 1.2 cm nodule", Verdict.PASSED), ("Known 13 mm nodule", Verdict.FAILED)):
        outcomes = run_checks(made, image_set, CONTEXT, given={"indication": told})
        assert next(one.verdict for one in outcomes if one.check == "measurement") is expected


def test_a_length_needs_pixel_spacing() -> None:
    made = draft("A 3.5 cm mass projects over the left mid zone.", "Left mid zone mass.")
    assert verdicts(made) == {}
    assert verdicts(made, image=film(spacing=None)) == {"measurement": Verdict.FAILED}
