"""A draft that describes what a segmentation beside it did not find."""

from dataclasses import replace

import pytest

from models.families.segmenting.structures import structure
from pipeline.checks.segmented import segmented
from pipeline.report import DraftReport, Language, Segment, TaskAnswer, Verdict
from tests.unit.fhir_samples import DRAFT


def drafted(
    text: str, *missing: str, language: Language = Language.ENGLISH, model: str = "nnunet"
) -> DraftReport:
    """A draft of ``text`` beside a segmentation that found a liver and none of ``missing``."""
    found = [_segment("liver", 1000, language), *(_segment(name, 0, language) for name in missing)]
    answer = TaskAnswer("segment", language, "", "", segments=tuple(found), model_id=model)
    return replace(DRAFT, language=language, findings_text=text, impression_text="", answers=(answer,))


def _segment(name: str, voxels: int, language: Language) -> Segment:
    known = structure(name)
    return Segment(1, known.words[language], voxels / 1000, voxels, name, known.code, known.side)


@pytest.mark.parametrize(
    ("text", "missing", "warned"),
    [
        ("The spleen is normal in size.", ("spleen",), "spleen"),
        ("The spleen is surgically absent.", ("spleen",), ""),
        ("Status post splenectomy.", ("spleen",), ""),
        ("The liver is normal.", ("spleen",), ""),
        ("The kidneys are unremarkable.", ("kidney_left",), "left kidney"),
        ("The right kidney is normal.", ("kidney_left",), ""),
        ("The left kidney is normal.", ("kidney_left",), "left kidney"),
        ("A kidney is seen.", ("kidney_left", "kidney_right"), "left kidney, right kidney"),
        ("Splenic vein patent.", ("spleen",), ""),
    ],
)
def test_what_is_not_there_is_not_described(text: str, missing: tuple[str, ...], warned: str) -> None:
    (outcome,) = segmented(drafted(text, *missing))
    assert outcome.verdict is (Verdict.WARNED if warned else Verdict.PASSED)
    assert (f"describes {warned}, of which" in outcome.message) == bool(warned)


def test_chinese_drafts_are_read_too() -> None:
    (outcome,) = segmented(drafted("脾脏大小正常。", "spleen", language=Language.CHINESE))
    assert outcome.verdict is Verdict.WARNED
    (outcome,) = segmented(drafted("脾脏已切除。", "spleen", language=Language.CHINESE))
    assert outcome.verdict is Verdict.PASSED


def test_a_segmenter_s_own_draft_and_one_without_are_not_judged() -> None:
    assert segmented(drafted("Not found: spleen.", "spleen", model="")) == ()
    assert segmented(DRAFT) == ()
