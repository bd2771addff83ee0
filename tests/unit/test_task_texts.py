"""Prompts and answers of firstread-mini: true, covered by the tokenizer, and read back by both readers."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.drafting.findings_text import parse_draft, read_findings
from models.simulation.task_texts import (
    PlacedFact,
    StudyFacts,
    answer_text,
    draw_closed,
    draw_open,
    task_example,
)
from models.training.label_reader import read_report, read_sentence
from models.training.tokenizer import build_tokenizer
from models.vocabulary.chinese import ABSENCES_ZH, chinese_sentences
from models.vocabulary.english import (
    ABSENCES,
    CHANGES,
    DEPTHS,
    DEVICES,
    KINDS,
    SEVERITIES,
    SIDES,
    ZONES,
    FindingFact,
    english_sentences,
    every_fact,
    merge_sides,
)
from models.vocabulary.task_words import (
    LANDMARKS,
    LANGUAGES,
    NAMES,
    ORGANS,
    TASKS,
    YES_NO,
    ZONED,
    Question,
    every_question,
    question_text,
)

BOTH = ("consolidation", "pleural_effusion", "pneumothorax")


@st.composite
def placed_facts(draw: st.DrawFn) -> list[PlacedFact]:
    placed = []
    for kind in draw(st.lists(st.sampled_from(KINDS), unique=True, max_size=4)):
        change = draw(st.sampled_from(CHANGES[:2] if kind in DEVICES else CHANGES))
        both = kind in BOTH and draw(st.booleans())
        for side in SIDES if both else (draw(st.sampled_from(SIDES)),):
            zoned = kind in ZONED
            fact = FindingFact(
                kind,
                "" if kind == "cardiomegaly" else side,
                draw(st.sampled_from(SEVERITIES[kind])),
                draw(st.sampled_from(ZONES)) if zoned else "",
                change,
                draw(st.sampled_from(DEPTHS)) if zoned else "",
            )
            x, y = draw(st.integers(0, 70)), draw(st.integers(0, 70))
            placed.append(PlacedFact(fact, (x, y, x + 30, y + 20)))
    return placed


@st.composite
def studies(draw: st.DrawFn) -> StudyFacts:
    return StudyFacts(
        tuple(draw(placed_facts())),
        {name: (10 * place, 5, 10 * place + 30, 95) for place, name in enumerate(ORGANS)},
        {name: (place, 100 - place) for place, name in enumerate(LANDMARKS)},
        draw(st.booleans()),
        draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


@given(studies(), st.sampled_from(TASKS), st.sampled_from(LANGUAGES), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_the_tokenizer_gives_back_every_prompt_and_answer(
    study: StudyFacts, task: str, language: str, seed: int
) -> None:
    built = _TOKENIZER
    for text in task_example(study, task, language, random.Random(seed)):
        ids = built.encode(text).ids
        assert built.decode(ids, skip_special_tokens=False) == text
        assert built.token_to_id("<unk>") not in ids


_TOKENIZER = build_tokenizer()


def test_the_vocabulary_is_small_and_numbers_are_kept(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() < 600
    assert tokenizer.decode(tokenizer.encode("{<0><7><100><99>}").ids) == "{<0><7><100><99>}"


@pytest.mark.parametrize("wording", [english_sentences, chinese_sentences])
def test_both_readers_read_every_sentence(wording: object) -> None:
    assert callable(wording)
    for fact in every_fact():
        graded = not (fact.side == "bilateral" and fact.kind in BOTH[1:])
        severity = fact.severity if graded else ""
        for place, texts in enumerate(wording(fact)):
            for text in texts:
                (stated,) = read_sentence(text)
                depth = fact.depth if place == 0 else ""
                assert (stated.kind, stated.present, stated.side) == (fact.kind, True, fact.side), text
                assert (stated.severity, stated.zone) == (severity, fact.zone), text
                assert (stated.change, stated.depth) == (fact.change, depth), text
                (found,) = read_findings(text)
                side = found.side.value if found.side else ""
                assert (found.kind, found.present, side) == (fact.kind, True, fact.side), text
                assert (found.severity, found.zone) == (severity, fact.zone), text


@pytest.mark.parametrize("absences", [ABSENCES, ABSENCES_ZH])
def test_both_readers_read_every_absence(absences: dict[tuple[str, ...], tuple[str, ...]]) -> None:
    for kinds, texts in absences.items():
        for text in texts:
            wanted = {(kind, False) for kind in kinds}
            assert {(one.kind, one.present) for one in read_sentence(text)} == wanted, text
            assert {(one.kind, one.present) for one in read_findings(text)} == wanted, text


@given(studies(), st.sampled_from(LANGUAGES), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_reports_say_what_is_there_and_compare_only_with_what_is_given(
    study: StudyFacts, language: str, seed: int
) -> None:
    _, report = task_example(study, "report", language, random.Random(seed))
    stated = {one.kind: one for one in read_report(report) if one.present}
    facts = merge_sides(study.facts)
    assert set(stated) == {fact.kind for fact in facts}
    for fact in facts:
        one = stated[fact.kind]
        assert (one.side, one.zone, one.change, one.depth) == (fact.side, fact.zone, fact.change, fact.depth)
    if not study.has_prior:
        assert "prior" not in report
        assert "较前" not in report
    if not study.has_lateral:
        assert "lateral film" not in report
        assert "侧位" not in report
    draft = parse_draft(report)
    assert {one.kind for one in draft.findings if one.present} == set(stated)


@given(studies(), st.sampled_from(LANGUAGES), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_grounded_reports_are_reports_with_boxes(study: StudyFacts, language: str, seed: int) -> None:
    _, findings = task_example(study, "findings", language, random.Random(seed))
    _, grounded = task_example(study, "grounded_report", language, random.Random(seed))
    assert grounded.count("{") == len(study.findings)
    for placed in study.findings:
        assert "{" + "".join(f"<{edge}>" for edge in placed.box) + "}" in grounded
    if not study.findings:
        assert grounded == findings


def _closed_answers(language: str, kinds: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    chooser = random.Random(0)
    for _ in range(3000):
        placed: list[PlacedFact] = []
        for kind in chooser.sample(KINDS, chooser.choices(range(4), (27, 37, 24, 12))[0]):
            side = "" if kind == "cardiomegaly" else chooser.choice(SIDES)
            placed.append(PlacedFact(FindingFact(kind, side, SEVERITIES[kind][0]), (1, 1, 9, 9)))
        study = StudyFacts(tuple(placed))
        question = draw_closed({p.fact.kind: p.fact for p in placed}, chooser)
        assert question.closed
        counts[(question.kind if kinds else "") + answer_text(question, study, language)] += 1
    return counts


def test_closed_questions_are_answered_yes_as_often_as_no() -> None:
    counts = _closed_answers("en", kinds=False)
    assert set(counts) == {"Yes.", "No."}
    assert 0.42 < counts["Yes."] / counts.total() < 0.58
    by_kind = _closed_answers("en", kinds=True)
    for kind in KINDS:
        yes, no = by_kind[f"{kind}Yes."], by_kind[f"{kind}No."]
        assert 0.3 < yes / (yes + no) < 0.7, kind


@given(studies(), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_open_questions_have_an_answer(study: StudyFacts, seed: int) -> None:
    question = draw_open({fact.kind: fact for fact in merge_sides(study.facts)}, random.Random(seed))
    assert not question.closed
    for language in LANGUAGES:
        answer = answer_text(question, study, language)
        assert answer
        assert answer not in YES_NO[language].values()


def test_answers_to_questions_about_one_study() -> None:
    nodule = FindingFact("nodule", "left", "large", "upper", "new", "posterior")
    effusion = FindingFact("pleural_effusion", "right", "small", "", "increased")
    study = StudyFacts(
        (PlacedFact(nodule, (60, 10, 70, 20)), PlacedFact(effusion, (10, 70, 40, 90))), {}, {}, True, True
    )
    expected = {
        Question("normal"): ("No.", "否。"),
        Question("presence", "nodule"): ("Yes.", "是。"),
        Question("presence", "pneumothorax"): ("No.", "否。"),
        Question("side_presence", "nodule", "right"): ("No.", "否。"),
        Question("side", "pleural_effusion"): ("Right.", "右侧。"),
        Question("size", "nodule"): ("Large.", "大。"),
        Question("change", "nodule"): ("New.", "新增。"),
        Question("depth", "nodule"): ("Posterior.", "后部。"),
        Question("zone", side="left", zone="upper"): ("Nodule.", "结节。"),
        Question("zone", side="left", zone="lower"): ("No nodule or consolidation.", "未见结节及实变。"),
    }
    for question, answers in expected.items():
        assert tuple(answer_text(question, study, language) for language in LANGUAGES) == answers
    with pytest.raises(KeyError):
        answer_text(Question("side", "pneumothorax"), study, "en")


def test_every_question_is_asked_in_other_words() -> None:
    for language in LANGUAGES:
        texts = [question_text(question, language) for question in every_question()]
        assert len(set(texts)) == len(texts)
        assert len(set(NAMES[language].values())) == len(NAMES[language])


def test_absent_things_are_said_to_be_absent() -> None:
    normal = StudyFacts(())
    for language, opening in (("en", "No "), ("zh", "未见")):
        _, answer = task_example(normal, "detect", language, random.Random(1))
        assert answer.startswith(opening)
        _, summary = task_example(normal, "summarize", language, random.Random(1))
        assert summary in ("No acute cardiopulmonary abnormality.", "心肺未见明显异常。")


def test_nothing_to_ask_of_is_said() -> None:
    empty = StudyFacts(())
    for task in ("identify", "landmark"):
        with pytest.raises(ValueError, match="study has"):
            task_example(empty, task, "en", random.Random(0))
    assert task_example(
        replace(empty, organs={"heart": (1, 2, 3, 4)}), "identify", "en", random.Random(0)
    ) == (
        "<identify><en> What is in {<1><2><3><4>}?",
        "Heart.",
    )
