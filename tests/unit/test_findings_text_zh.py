"""Reading drafts in Chinese."""

import random

import pytest

from models.drafting.findings_text import parse_draft, read_findings, split_sentences
from models.vocabulary.chinese import every_sentence_zh, write_sections_zh
from models.vocabulary.english import KINDS, SEVERITIES, FindingFact
from pipeline.errors import FailStudy

LUNG = ("nodule", "consolidation")


def facts(seed: int) -> list[FindingFact]:
    """A few random findings, at most one of a kind."""
    chooser = random.Random(seed)
    chosen = chooser.sample(KINDS, chooser.randint(0, 3))
    return [
        FindingFact(
            kind=kind,
            side="" if kind == "cardiomegaly" else chooser.choice(("right", "left")),
            severity=chooser.choice(SEVERITIES[kind]),
            zone=chooser.choice(("upper", "mid", "lower")) if kind in LUNG else "",
        )
        for kind in chosen
    ]


@pytest.mark.parametrize("heading", [("检查所见", "印象"), ("影像所见", "影像诊断")])
def test_what_was_written_is_read(heading: tuple[str, str]) -> None:
    for seed in range(150):
        written = facts(seed)
        findings, impression = write_sections_zh(written, random.Random(seed))
        draft = parse_draft(f"{heading[0]}：{findings}\n{heading[1]}：{impression}")
        assert (draft.findings_text, draft.impression_text) == (findings, impression)
        read = {one.kind: (one.side or "", one.severity, one.zone) for one in draft.findings if one.present}
        assert read == {one.kind: (one.side, one.severity, one.zone) for one in written}, findings
        absent = {one.kind for one in draft.findings if not one.present}
        assert not absent & read.keys(), findings
        again = {one.kind for one in read_findings(impression) if one.present}
        assert again == read.keys(), impression


def test_every_sentence_is_one_and_states_something() -> None:
    for sentence in every_sentence_zh():
        assert split_sentences(sentence) == (sentence,)
        assert read_findings(sentence) or "未见明显异常" in sentence, sentence
        assert all(one.sentence == sentence for one in read_findings(sentence))


@pytest.mark.parametrize(
    ("sentence", "stated"),
    [
        ("未见胸腔积液及气胸。", [("pleural_effusion", False, None), ("pneumothorax", False, None)]),
        ("左肺未见实变，右肺上野可见结节影。", [("consolidation", False, "left"), ("nodule", True, "right")]),
        ("左侧气胸，较前增多。", [("pneumothorax", True, "left")]),
        ("右侧胸腔积液已吸收。", [("pleural_effusion", False, "right")]),
        ("两侧胸腔少量积液。", [("pleural_effusion", True, "bilateral")]),
        ("心影不大。", [("cardiomegaly", False, None)]),
        ("左侧心脏起搏器，导线投影于心影。", [("pacemaker", True, "left")]),
        ("左侧胸腔，可见少量积液。", [("pleural_effusion", True, "left")]),
        ("建议复查。", []),
    ],
)
def test_denials_sides_and_clauses(sentence: str, stated: list[tuple[str, bool, str | None]]) -> None:
    assert [(one.kind, one.present, one.side) for one in read_findings(sentence)] == stated


def test_a_draft_without_both_sections_cannot_be_read() -> None:
    for text in ("检查所见：双肺野清晰。", "双肺野清晰。印象：正常。", "检查所见：\n印象：。"):
        with pytest.raises(FailStudy, match="not both"):
            parse_draft(text)
