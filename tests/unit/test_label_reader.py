import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.label_reader import (
    StatedFinding,
    UnreadableReportError,
    read_report,
    read_sentence,
    read_text,
)
from models.training.scoring import score_reports
from models.vocabulary.english import (
    KINDS,
    SEVERITIES,
    SIDES,
    ZONES,
    FindingFact,
    every_sentence,
    join_sections,
    merge_sides,
    split_tokens,
    write_sections,
)


@st.composite
def facts(draw: st.DrawFn) -> list[FindingFact]:
    chosen = []
    for kind in draw(st.lists(st.sampled_from(KINDS), unique=True, max_size=4)):
        both = kind in ("consolidation", "pleural_effusion", "pneumothorax") and draw(st.booleans())
        for side in SIDES if both else (draw(st.sampled_from(SIDES)),):
            zone = draw(st.sampled_from(ZONES)) if kind in ("nodule", "consolidation") else ""
            side = "" if kind == "cardiomegaly" else side
            chosen.append(FindingFact(kind, side, draw(st.sampled_from(SEVERITIES[kind])), zone))
    return chosen


@given(facts(), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_reading_gives_back_what_was_written(known: list[FindingFact], seed: int) -> None:
    findings, impression = write_sections(known, random.Random(seed))
    stated = read_report(join_sections(findings, impression))
    present = {s.kind: s for s in stated if s.present}
    for fact in merge_sides(known):
        read = present.pop(fact.kind)
        assert (read.side, read.zone) == (fact.side, fact.zone)
        if read.severity:
            assert read.severity == fact.severity
    assert not present
    assert {s.kind for s in stated if not s.present} == {
        kind for kind in KINDS[:5] if kind not in {fact.kind for fact in known}
    }
    assert {s.kind for s in read_text(impression) if s.present} == {fact.kind for fact in known}


def test_every_sentence_is_understood_or_the_normal_impression() -> None:
    silent = [sentence for sentence in every_sentence() if not read_sentence(sentence)]
    assert silent == ["No acute cardiopulmonary abnormality."]


def test_tokens_join_to_the_text() -> None:
    assert all("".join(split_tokens(sentence)) == sentence for sentence in every_sentence())


def test_one_report_read_in_full() -> None:
    text = (
        "Findings: There is a mass in the left upper zone. No consolidation is seen. "
        "Bilateral pleural effusions are present. No pneumothorax. The cardiac silhouette is mildly enlarged. "
        "A right pacemaker has leads over the heart.\nImpression: Mass in the left upper zone."
    )
    assert read_report(text) == (
        StatedFinding("nodule", True, "left", "large", "upper"),
        StatedFinding("consolidation", False),
        StatedFinding("pleural_effusion", True, "bilateral"),
        StatedFinding("pneumothorax", False),
        StatedFinding("cardiomegaly", True, "", "mild"),
        StatedFinding("pacemaker", True, "right"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The lungs are clear.",
        "Findings: The lungs are clear.",
        "Findings: The lungs are clear.\nImpression: ",
        "Findings: The lungs\nImpression: Normal.",
    ],
)
def test_unfinished_reports_are_refused(text: str) -> None:
    with pytest.raises(UnreadableReportError):
        read_report(text)


def test_scoring_counts_hits_sides_and_normals() -> None:
    left = [FindingFact("pleural_effusion", "left", "small")]
    written = join_sections(*write_sections(left, random.Random(0)))
    normal = join_sections(*write_sections([], random.Random(0)))
    wrong_side = written.replace("left", "right")
    score = score_reports([written, wrong_side, normal, written, "cut off"], [left, left, [], [], left])
    effusion = score.kinds["pleural_effusion"]
    assert (effusion.hit, effusion.false, effusion.missed, effusion.f1) == (2, 1, 1, 0.6667)
    assert (score.side_of_found, score.side_of_all) == (0.5, 0.3333)
    assert (score.normal_as_normal, score.readable) == (0.5, 0.8)
