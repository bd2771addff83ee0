"""Reading drafts: negation, lists, sides, and anything at all without falling over."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.drafting.findings_text import parse_draft, read_findings, split_sentences
from models.vocabulary.english import (
    KINDS,
    SEVERITIES,
    SIDES,
    ZONES,
    FindingFact,
    every_sentence,
    join_sections,
    merge_sides,
    write_sections,
)
from pipeline.errors import FailStudy
from pipeline.report import Side

Statement = tuple[str, bool, Side | None]


def statements(text: str) -> set[Statement]:
    return {(finding.kind, finding.present, finding.side) for finding in read_findings(text)}


LEFT, RIGHT, BOTH = Side.LEFT, Side.RIGHT, Side.BILATERAL

CASES: list[tuple[str, set[Statement]]] = [
    (
        "No pleural effusion or pneumothorax.",
        {("pleural_effusion", False, None), ("pneumothorax", False, None)},
    ),
    ("The lungs are clear.", {("nodule", False, None), ("consolidation", False, None)}),
    ("The lungs are not clear.", set()),
    ("The left lung is clear.", {("nodule", False, LEFT), ("consolidation", False, LEFT)}),
    ("The heart is not enlarged.", {("cardiomegaly", False, None)}),
    ("The cardiac silhouette is normal in size.", {("cardiomegaly", False, None)}),
    ("The cardiac silhouette is markedly enlarged.", {("cardiomegaly", True, None)}),
    ("The cardiac silhouette is obscured.", set()),
    ("A right pacemaker has leads over the heart.", {("pacemaker", True, RIGHT)}),
    (
        "Small right pleural effusion and large left pneumothorax.",
        {("pleural_effusion", True, RIGHT), ("pneumothorax", True, LEFT)},
    ),
    ("There are bilateral pleural effusions.", {("pleural_effusion", True, BOTH)}),
    ("Effusions are seen on the left and on the right.", {("pleural_effusion", True, BOTH)}),
    (
        "There is a nodule in the left upper zone without pleural effusion.",
        {("nodule", True, LEFT), ("pleural_effusion", False, None)},
    ),
    (
        "No pneumothorax, but there is a small left effusion.",
        {("pneumothorax", False, None), ("pleural_effusion", True, LEFT)},
    ),
    ("A pneumothorax is not seen.", {("pneumothorax", False, None)}),
    ("The right pneumothorax has resolved.", {("pneumothorax", False, RIGHT)}),
    ("No significant change in the right pleural effusion.", {("pleural_effusion", True, RIGHT)}),
    ("Consolidation in both lungs.", {("consolidation", True, BOTH)}),
    ("The bones are intact.", set()),
    ("Opacity measures 1.5 cm. No nodule.", {("nodule", False, None)}),
    ("NO CONSOLIDATION OR NODULE IS SEEN.", {("nodule", False, None), ("consolidation", False, None)}),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_a_sentence_states(text: str, expected: set[Statement]) -> None:
    assert statements(text) == expected


def test_zone_severity_and_sentence() -> None:
    (nodule,) = read_findings("There is a small nodule in the left middle zone.")
    assert (nodule.zone, nodule.severity, nodule.side) == ("mid", "small", LEFT)
    assert nodule.sentence == "There is a small nodule in the left middle zone."
    (mass,) = read_findings("A mass projects over the right upper zone.")
    assert (mass.kind, mass.severity, mass.zone) == ("nodule", "large", "upper")
    (heart,) = read_findings("The cardiac silhouette is mildly enlarged.")
    assert heart.severity == "mild"


def test_every_sentence_of_the_vocabulary_is_understood() -> None:
    silent = [text for text in every_sentence() if not read_findings(text) and "No acute" not in text]
    assert silent == []


facts = st.lists(
    st.sampled_from(KINDS).flatmap(
        lambda kind: st.builds(
            FindingFact,
            st.just(kind),
            st.just("") if kind == "cardiomegaly" else st.sampled_from(SIDES),
            st.sampled_from(SEVERITIES[kind]),
            st.sampled_from(ZONES) if kind in ("nodule", "consolidation") else st.just(""),
        )
    ),
    max_size=4,
    unique_by=lambda fact: fact.kind,
)


@given(facts, st.integers(0, 1000))
def test_what_the_simulator_writes_is_read_back(written: list[FindingFact], seed: int) -> None:
    draft = parse_draft(join_sections(*write_sections(written, random.Random(seed))))
    read = {(f.kind, f.side.value if f.side else "", f.severity, f.zone) for f in draft.findings if f.present}
    assert read == {(f.kind, f.side, f.severity, f.zone) for f in merge_sides(written)}
    absent = {finding.kind for finding in draft.findings if not finding.present}
    assert absent.isdisjoint({fact.kind for fact in written})


texts = st.text(max_size=120)


@given(texts | st.builds("Findings: {}\nImpression: {}".format, texts, texts))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(FailStudy) as empty:
        parse_draft("")
    refusal = ""
    try:
        draft = parse_draft(text)
        assert draft.findings_text
        assert draft.impression_text
    except FailStudy as error:
        refusal = str(error)
    assert refusal in ("", str(empty.value)), "a refusal repeats nothing of the text"


@given(st.text(alphabet="aA. no,;\nßİ left nodule effusion", max_size=120))
def test_sentences_keep_every_word(text: str) -> None:
    assert "".join(" ".join(split_sentences(text)).split()) == "".join(text.split())
    for finding in read_findings(text):
        assert finding.sentence in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Findings:",
        "Findings: The lungs are clear.",
        "Impression: No acute cardiopulmonary abnormality.",
        "Findings: . \nImpression: Nothing.",
        "Findings: The lungs are clear.\nImpression: ",
        "The lungs are clear. Impression: Nothing.",
    ],
)
def test_a_draft_without_both_sections_is_refused(text: str) -> None:
    with pytest.raises(FailStudy) as caught:
        parse_draft(text)
    assert caught.value.code == "draft-unparsable"


def test_a_truncated_draft_is_refused() -> None:
    with pytest.raises(FailStudy, match="length limit"):
        parse_draft("Findings: The lungs are clear.\nImpression: No", truncated=True)
