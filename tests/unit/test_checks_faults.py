"""Planted faults are found, clean drafts pass, and no text makes a check raise."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checks import CHECKS, refuse_if_failed, run_checks
from pipeline.errors import FailStudy
from pipeline.report import DraftReport, Finding, Language, PriorStudy, Provenance, Region, Side, Verdict
from pipeline.study import ImageSet, InstanceRef, LeftOut, PatientIdentity, StudyContext, StudyImage

REF = InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5")
WHEN = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
CONTEXT = StudyContext("1.2.3", PatientIdentity("P1", "", ("DOE^JANE",), date(1960, 1, 1), "F"), started=WHEN)
NORMAL = ("The lungs are clear. No pleural effusion or pneumothorax. The heart is not enlarged.",)
NOTHING = "No acute cardiopulmonary abnormality."


def film(view: str = "PA", spacing: tuple[float, float] | None = (0.2, 0.2)) -> StudyImage:
    """A frontal film of 2000 rows and 1600 columns: 400 by 320 mm at the default spacing."""
    return StudyImage(
        REF, 0, np.zeros((4, 4), np.float32), 2000, 1600, spacing, "DX", "CHEST", view, "MONOCHROME2"
    )


def draft(findings: str, impression: str, /, **changes: object) -> DraftReport:
    """A draft of the two sections, with nothing else in it."""
    made = DraftReport(
        study_instance_uid="1.2.3",
        language=Language.ENGLISH,
        findings_text=findings,
        impression_text=impression,
        findings=(),
        probabilities={},
        images=(REF,),
        provenance=Provenance("m", "1", "r", "torch", WHEN, WHEN),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def verdicts(
    made: DraftReport, *, image: StudyImage | None = None, has_prior: bool = False
) -> dict[str, Verdict]:
    """Every check that did not pass, by name."""
    images = ImageSet("1.2.3", (image or film(),))
    outcomes = run_checks(made, images, CONTEXT, has_prior=has_prior)
    assert [outcome.check for outcome in outcomes] == [name for name, _ in CHECKS]
    return {outcome.check: outcome.verdict for outcome in outcomes if outcome.verdict is not Verdict.PASSED}


CLEAN = [
    ("The lungs are clear. No pleural effusion or pneumothorax. The heart is not enlarged.", NOTHING),
    (
        "There is a small nodule in the right upper zone. No consolidation is seen.",
        "Small nodule in the right upper zone.",
    ),
    (
        "Extensive consolidation is seen in both lungs. There is a small left pleural effusion. "
        "No pneumothorax. The cardiac silhouette is markedly enlarged. A left pacemaker has leads over the heart.",
        "Extensive consolidation in both lungs. Small left pleural effusion. Marked cardiomegaly. "
        "Left pacemaker in place.",
    ),
    (
        "A right central venous catheter projects over the superior vena cava. There is a moderate left "
        "pneumothorax. No pleural effusion. The cardiac silhouette is normal in size.",
        "Moderate left pneumothorax. Right central venous catheter in place.",
    ),
    (
        "No focal consolidation, but there is a small left effusion without pneumothorax.",
        "Small left pleural effusion.",
    ),
    ("Patchy opacity in the left lower zone.", "Left lower zone pneumonia. Follow-up radiograph is advised."),
    ("A mass projects over the left mid zone.", "Left mid zone mass. CT is advised for further evaluation."),
    ("Moderate right effusion. No left effusion. Heart size is normal.", "Moderate right pleural effusion."),
    (
        "There is consolidation in the right lower zone and a pneumothorax on the left.",
        "Left pneumothorax. Right lower zone consolidation.",
    ),
    ("No pneumothorax. A pleural effusion cannot be excluded.", NOTHING),
    ("The nodule measures 12 mm in the right upper zone.", "Nodule in the right upper zone."),
    ("Pericardial effusion is not assessed. No pleural effusion.", NOTHING),
    ("Pleural effusion is not seen. Pneumothorax: none.", NOTHING),
    ("Left central venous catheter with tip in the right atrium.", "Left central venous catheter in place."),
    ("Consolidation in the right mid and lower zones.", "Right lower zone consolidation."),
    (
        "Large left effusion with a small nodule in the right upper zone.",
        "Large left effusion. Small nodule.",
    ),
    ("There is a small left pleural effusion. No other effusion is seen.", "Small left pleural effusion."),
]
REALISTIC = [
    (
        "The heart is normal in size. The mediastinum is unremarkable. The lungs are clear.",
        "No acute disease.",
    ),
    (
        "Cardiomediastinal silhouette is within normal limits. Lungs are clear without focal "
        "consolidation, effusion, or pneumothorax.",
        "No acute cardiopulmonary process.",
    ),
    ("Low lung volumes with bibasilar atelectasis. No pleural effusion.", "Bibasilar atelectasis."),
    (
        "There is blunting of the left costophrenic angle, which may represent a small effusion.",
        "Possible small left effusion.",
    ),
    ("Right-sided PICC terminates in the SVC. No pneumothorax.", "Right PICC in place."),
    (
        "The cardiac silhouette is enlarged. Mild pulmonary edema. Small bilateral pleural "
        "effusions, right greater than left.",
        "Mild pulmonary edema with small bilateral effusions.",
    ),
    (
        "Degenerative changes of the spine. No acute bony abnormality.",
        "No acute cardiopulmonary abnormality.",
    ),
    ("Calcified granuloma in the left upper lobe.", "No acute disease."),
    ("Left lower lobe airspace disease.", "Left lower lobe pneumonia."),
    (
        "Opacity in the right middle lobe, concerning for pneumonia.",
        "Right middle lobe pneumonia. Recommend follow-up to resolution.",
    ),
    ("The left hemidiaphragm is elevated. Left basilar atelectasis.", "Left basilar atelectasis."),
    (
        "Dual-lead pacemaker with leads in the right atrium and right ventricle. Median sternotomy wires.",
        "Pacemaker in place.",
    ),
    (
        "There is no focal consolidation, pleural effusion or pneumothorax. Heart size is mildly enlarged.",
        "Mild cardiomegaly without acute process.",
    ),
    (
        "There is no pleural effusion on the left; small right pleural effusion.",
        "Small right pleural effusion.",
    ),
    (
        "Heart size upper limits of normal. No pneumothorax, pleural effusion, or focal air space opacity.",
        "No acute findings.",
    ),
    (
        "Heart size mildly enlarged, mediastinal contours are normal. Lungs clear.",
        "Mild cardiomegaly. No acute abnormality.",
    ),
    ("Hyperexpanded lungs suggest emphysema. No focal infiltrate.", "Emphysema without acute disease."),
    ("Old healed right rib fractures. Lungs are clear.", "No acute abnormality."),
    (
        "There is a large left pneumothorax with rightward mediastinal shift. The right lung is clear.",
        "Large left tension pneumothorax. Findings were discussed.",
    ),
    (
        "Patchy left lower lobe opacity. No effusion.",
        "Left lower lobe opacity may represent atelectasis or pneumonia.",
    ),
    (
        "The heart size and pulmonary vascularity appear within normal limits. Lungs are free of "
        "focal airspace disease. No pleural effusion or pneumothorax is seen.",
        "No evidence of active disease.",
    ),
    (
        "Moderate right pleural effusion with adjacent compressive atelectasis. The left lung is clear.",
        "Moderate right pleural effusion with atelectasis.",
    ),
    (
        "Left internal jugular catheter tip at the cavoatrial junction.",
        "Left IJ catheter without pneumothorax.",
    ),
    (
        "The trachea is midline. Both lungs are clear of consolidation or effusion. There is no "
        "nodule or mass.",
        "Normal chest.",
    ),
    (
        "There are small nodules in both lungs. A right lower lobe mass measures 4.5 x 3.2 cm.",
        "Right lower lobe mass with bilateral pulmonary nodules. CT chest is recommended.",
    ),
    (
        "Right upper lobe consolidation with air bronchograms. Left lung is clear. No pleural effusions.",
        "Right upper lobe consolidation, most compatible with lobar pneumonia.",
    ),
    (
        "Nodular density projects over the left upper lung. The bones are intact.",
        "Left upper lung nodule; follow-up CT is advised.",
    ),
    (
        "Both costophrenic angles are sharp. No pneumothorax. Scoliosis of the thoracic spine.",
        "No acute cardiopulmonary findings.",
    ),
    (
        "Enlarged cardiac silhouette with vascular congestion. Bilateral interstitial opacities "
        "consistent with pulmonary edema. Trace right effusion.",
        "Congestive heart failure with pulmonary edema.",
    ),
]
"""Sentences as radiologists write them, of kinds that the simulated reports do not have."""


@pytest.mark.parametrize(("findings", "impression"), CLEAN + REALISTIC)
def test_clean_drafts_pass(findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)) == {}


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
    ("laterality", "failed", "There is a small left pleural effusion.", "Small right pleural effusion."),
    ("laterality", "failed", "There is a nodule in the left upper zone.", "Nodule in the right upper zone."),
    ("laterality", "failed", "There is a small left pneumothorax.", "Bilateral pneumothoraces."),
    ("laterality", "warned", "Bilateral pleural effusions are present.", "Left pleural effusion."),
    ("comparison", "failed", "The cardiac silhouette is unchanged.", NOTHING),
    ("comparison", "failed", "Compared with the prior study, the lungs are clear.", NOTHING),
    ("comparison", "failed", "No interval change.", NOTHING),
    ("comparison", "warned", "There is a new left pleural effusion.", "New left pleural effusion."),
    ("measurement", "failed", "A 55 cm mass projects over the left mid zone.", "Left mid zone mass."),
    ("measurement", "failed", "Attenuation of 40 HU in the left lung.", NOTHING),
    ("body-part", "failed", "The femur is intact.", NOTHING),
    ("body-part", "failed", "CT shows clear lungs.", NOTHING),
    ("body-part", "failed", "The lateral view shows clear lungs.", NOTHING),
    ("body-part", "failed", "The brain is normal.", NOTHING),
    ("repetition", "failed", "No effusion. No effusion. No effusion.", NOTHING),
    ("repetition", "failed", "There is a left left left left left effusion.", "Left effusion."),
    ("repetition", "failed", "in the left zone in the left zone in the left zone nodule", "Nodule."),
    ("repetition", "warned", "The lungs are clear. The lungs are clear.", NOTHING),
    ("language", "failed", "双肺清晰。心影不大。", "心肺未见异常。"),
    (
        "language",
        "failed",
        "No hay derrame pleural. Los pulmones sin consolidación del lado derecho con una.",
        "Sin.",
    ),
    ("language", "failed", "Легкие чистые.", "Норма."),
    ("language", "warned", "The lungs are clear 清. No pleural effusion or pneumothorax is seen.", NOTHING),
    ("residue", "failed", "The lungs are clear.<|endoftext|>", NOTHING),
    ("residue", "failed", "As an AI language model I cannot interpret images.", NOTHING),
    ("residue", "failed", "The lungs\x00 are clear.", NOTHING),
    ("sections", "failed", "", NOTHING),
    ("sections", "failed", "The lungs are clear.", " . "),
    ("sections", "failed", "clear lungs " * 3000, NOTHING),
    ("truncated", "warned", "The lungs are clear.", "No acute cardiopulmonary"),
    ("demographics", "failed", "This 20-year-old woman has clear lungs.", NOTHING),
    ("demographics", "failed", "The lungs of this man are clear.", NOTHING),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


@pytest.mark.parametrize(("code", "warns"), [("pixel-data-short", True), ("lateral-view", False)])
def test_an_image_that_could_not_be_read_warns(code: str, warns: bool) -> None:
    left_out = (LeftOut("1.2.9", code, "the reason"),)
    made = draft("The lungs are clear.", "No acute abnormality.")
    outcomes = run_checks(made, ImageSet("1.2.3", (film(),), left_out), CONTEXT)
    (outcome,) = (one for one in outcomes if one.check == "images")
    assert (outcome.verdict is Verdict.WARNED) == warns


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
        "右肺上叶见12mm结节。",
        "积液约500毫升。",
        "CT值约35HU。",
        "气管插管距隆突约四厘米。",
        "The effusion holds 500 mL.",
        "A half-inch nodule is seen.",
        "A nodule of 2 inches is seen.",
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


def test_words_of_the_classifier_that_only_the_checks_know() -> None:
    for text, kind in (("Left-sided pacer in place.", "pacemaker"), ("Airspace disease.", "consolidation")):
        assert verdicts(draft(text, text, probabilities={kind: 0.99})) == {}
        assert verdicts(draft(text, text, probabilities={"nodule": 0.99})) == {"classifier": Verdict.WARNED}


def test_one_sentence_in_another_latin_language_warns() -> None:
    made = draft("The lungs are clear. No hay derrame pleural. The heart is normal in size.", NOTHING)
    assert verdicts(made) == {"language": Verdict.WARNED}


def test_a_length_needs_pixel_spacing() -> None:
    made = draft("A 3.5 cm mass projects over the left mid zone.", "Left mid zone mass.")
    assert verdicts(made) == {}
    assert verdicts(made, image=film(spacing=None)) == {"measurement": Verdict.FAILED}


def test_a_truncated_draft_fails() -> None:
    assert verdicts(draft("The lungs are clear.", NOTHING, truncated=True)) == {"truncated": Verdict.FAILED}


def test_a_lateral_view_that_was_seen_may_be_described() -> None:
    made = draft("The lateral view shows clear lungs.", NOTHING)
    assert verdicts(made, image=film(view="LL")) == {}


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
