"""Is the draft a report at all: its sections, end, loops, language and residue."""

import pytest

from pipeline.report import Verdict
from tests.check_drafts import NOTHING, draft, verdicts

PLANTED = [
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
    ("residue", "failed", "The lungs\u0000 are clear.", NOTHING),
    ("residue", "failed", "The lungs are [clear](javascript:x).", NOTHING),
    ("sections", "failed", "", NOTHING),
    ("sections", "failed", "The lungs are clear.", " . "),
    ("sections", "failed", "clear lungs " * 3000, NOTHING),
    ("truncated", "warned", "The lungs are clear.", "No acute cardiopulmonary"),
]


@pytest.mark.parametrize(("check", "verdict", "findings", "impression"), PLANTED)
def test_planted_faults_are_found(check: str, verdict: str, findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)).get(check) == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Lungorna är utan infiltrat. Inget pleuravätska. Hjärtat är normalt.", Verdict.FAILED),
        ("Płuca bez zmian ogniskowych. Serce niepowiększone.", Verdict.FAILED),
        ("Akciğerlerde infiltrasyon izlenmedi. Kalp normaldir.", Verdict.FAILED),
        ("Geen pleuravocht. Het hart is niet vergroot.", Verdict.FAILED),
        ("The café-au-lait lung was described by Ménière in the text; it is clear.", None),
    ],
)
def test_other_languages_in_latin_script(text: str, verdict: Verdict | None) -> None:
    assert verdicts(draft(text, text)).get("language") == verdict


def test_one_sentence_in_another_latin_language_warns() -> None:
    made = draft("The lungs are clear. No hay derrame pleural. The heart is normal in size.", NOTHING)
    assert verdicts(made) == {"language": Verdict.WARNED}


def test_a_truncated_draft_fails() -> None:
    assert verdicts(draft("The lungs are clear.", NOTHING, truncated=True)) == {"truncated": Verdict.FAILED}
