"""What firstread-mini learns to answer about a study: prompt and answer of every task, in English and Chinese.

The prompts are those of ``models/prompts/firstread-mini.toml``, so training and use cannot differ. Boxes and points are
Uni-Med's, ``{<x1><y1><x2><y2>}`` and ``{<x><y>}``, whole numbers from 0 to 100 over the whole film.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.vocabulary.chinese import (
    ABSENCES_ZH,
    NO_ABNORMALITY_ZH,
    chinese_sentences,
)
from models.vocabulary.english import (
    ABSENCES,
    KINDS,
    NO_ABNORMALITY,
    SIDES,
    ZONES,
    FindingFact,
    choose_sentences,
    english_sentences,
    merge_sides,
)
from models.vocabulary.prompts import headed, prompt_text
from models.vocabulary.task_words import (
    CHANGE_ANSWERS,
    DEPTH_ANSWERS,
    FULL_STOP,
    GRADED,
    LIST_MARK,
    NAMES,
    NO_LABEL,
    NORMAL,
    ORGANS,
    SIDE_ANSWERS,
    SIDED,
    YES_NO,
    ZONED,
    Question,
    box_text,
    point_text,
    question_text,
    sided_name,
    size_answer,
)

Box = tuple[int, int, int, int]
CLOSED_SHARE = 0.55
"""Share of yes-or-no questions among those of VQA."""


@dataclass(frozen=True, slots=True)
class PlacedFact:
    """A finding on one side and its ``box`` (x1, y1, x2, y2), whole numbers 0..100 over the whole film."""

    fact: FindingFact
    box: Box


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known about a simulated study: all that an answer may say.

    ``organs`` are boxes and ``landmarks`` points (x, y), as in ``PlacedFact``, by the keys of ``ORGANS`` and
    ``LANDMARKS``; one that lies off the film is left out. Without ``has_prior`` no change is ever spoken of, and
    without ``has_lateral`` no depth.
    """

    findings: tuple[PlacedFact, ...]
    organs: Mapping[str, Box] = field(default_factory=dict)
    landmarks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    has_lateral: bool = False
    has_prior: bool = False

    @property
    def facts(self) -> tuple[FindingFact, ...]:
        """The findings as they may be stated with the films given."""
        return tuple(
            replace(
                placed.fact,
                change=placed.fact.change if self.has_prior else "",
                depth=placed.fact.depth if self.has_lateral else "",
            )
            for placed in self.findings
        )

    def boxes(self, kind: str, side: str = "") -> list[Box]:
        """The boxes of one kind, of one side or of both, the right side first."""
        found = [p for p in self.findings if p.fact.kind == kind and side in ("", p.fact.side)]
        return [p.box for p in sorted(found, key=lambda p: (p.fact.side != "right", p.box))]


def write_report(
    facts: Sequence[FindingFact], language: str, chooser: random.Random
) -> tuple[list[tuple[str, FindingFact | None]], list[str]]:
    """Sentences of Findings, each with its finding (None: absences), and of Impression."""
    if language == "en":
        findings, impression = choose_sentences(facts, chooser, english_sentences, ABSENCES)
        return findings, impression or [NO_ABNORMALITY]
    findings, impression = choose_sentences(facts, chooser, chinese_sentences, ABSENCES_ZH)
    return findings, impression or [NO_ABNORMALITY_ZH]


def join_text(sentences: Sequence[str], language: str) -> str:
    """Sentences as running text."""
    return (" " if language == "en" else "").join(sentences)


def task_example(study: StudyFacts, task: str, language: str, chooser: random.Random) -> tuple[str, str]:
    """A prompt for ``task`` about ``study`` and what the model should answer.

    ``chooser`` picks what is asked and among equal wordings. Raises KeyError for a task or language that the model does
    not have, and ValueError for identify or landmark on a study without anything to ask of.
    """
    prompt, answer = _EXAMPLES[task](study, language, chooser)
    text = prompt_text(task, language)
    for name, value in prompt.items():
        text = text.replace(f"{{{name}}}", value)
    return text, answer


Example = tuple[dict[str, str], str]


def _report(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    return {}, _whole_report(study, language, chooser)


def _whole_report(study: StudyFacts, language: str, chooser: random.Random) -> str:
    findings, impression = write_report(study.facts, language, chooser)
    first = headed("findings", join_text([text for text, _ in findings], language), language)
    return f"{first}\n{headed('impression', join_text(impression, language), language)}"


def _findings(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    return {}, _whole_report(study, language, chooser).split("\n")[0]


def _impression(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    return {}, _whole_report(study, language, chooser).split("\n")[1]


def _grounded(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    findings, _ = write_report(study.facts, language, chooser)
    sentences = []
    for text, fact in findings:
        boxes = "" if fact is None else "".join(box_text(box) for box in study.boxes(fact.kind))
        gap = " " if language == "en" and boxes else ""
        sentences.append(f"{text[:-1]}{gap}{boxes}{text[-1]}")
    return {}, headed("findings", join_text(sentences, language), language)


def _detect(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    present = sorted({placed.fact.kind for placed in study.findings})
    absent = [kind for kind in KINDS if kind not in present]
    draw = chooser.random()
    if draw < 0.2 and study.organs:
        organ = chooser.choice(sorted(study.organs))
        return {"target": NAMES[language][organ]}, box_text(study.organs[organ])
    kind = chooser.choice(present if present and (draw < 0.75 or not absent) else absent)
    side = chooser.choice(SIDES) if kind in SIDED and chooser.random() < 0.4 else ""
    target = sided_name(kind, side, language)
    boxes = study.boxes(kind, side)
    return {"target": target}, "".join(map(box_text, boxes)) or _not_seen(target, language)


def _not_seen(target: str, language: str) -> str:
    return f"No {target}." if language == "en" else f"未见{target}。"


def _identify(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    things = [(p.box, sided_name(p.fact.kind, p.fact.side, language)) for p in study.findings]
    organs = [(study.organs[key], NAMES[language][key]) for key in ORGANS if key in study.organs]
    if not things and not organs:
        raise ValueError("the study has nothing to point at")
    box, name = chooser.choice(things if things and (chooser.random() < 0.75 or not organs) else organs)
    return {"box": box_text(box)}, _answer(name, language)


def _answer(words: str, language: str) -> str:
    return f"{words[0].upper()}{words[1:]}{FULL_STOP[language]}"


def _landmark(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    if not study.landmarks:
        raise ValueError("the study has no landmark")
    name = chooser.choice(sorted(study.landmarks))
    return {"target": NAMES[language][name]}, point_text(study.landmarks[name])


def _summarize(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    findings, impression = write_report(study.facts, language, chooser)
    text = headed("findings", join_text([text for text, _ in findings], language), language)
    return {"text": text}, join_text(impression, language)


def _classify(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    kinds = {placed.fact.kind for placed in study.findings}
    present = kinds or {NORMAL}
    names = [*KINDS, NORMAL]
    size = chooser.randint(2, len(names))
    labels = chooser.sample(names, size)
    if not present & set(labels) and chooser.random() < 0.6:
        labels[chooser.randrange(size)] = chooser.choice(sorted(present))
    chosen = [NAMES[language][label] for label in labels if label in present]
    mark = LIST_MARK[language]
    asked = mark.join(NAMES[language][label] for label in labels)
    return {"labels": asked}, _answer(mark.join(chosen) or NO_LABEL[language], language)


def _vqa(study: StudyFacts, language: str, chooser: random.Random) -> Example:
    merged = {fact.kind: fact for fact in merge_sides(study.facts)}
    question = draw_closed(merged, chooser) if chooser.random() < CLOSED_SHARE else draw_open(merged, chooser)
    return {"question": question_text(question, language)}, answer_text(question, study, language)


def draw_closed(merged: Mapping[str, FindingFact], chooser: random.Random) -> Question:
    """A yes-or-no question, yes about as often as no over many studies, a quarter of which show nothing."""
    yes, draw = chooser.random() < 0.68, chooser.random()
    if draw < (0.05 if merged else 0.2):
        return Question("normal")
    absent = [kind for kind in KINDS if kind not in merged]
    if draw < 0.55:
        pool = sorted(merged) if yes and merged else absent
        return Question("presence", chooser.choice(pool or sorted(merged)))
    sided = [fact for kind, fact in sorted(merged.items()) if kind in SIDED]
    if yes and sided:
        fact = chooser.choice(sided)
        side = chooser.choice(SIDES) if fact.side == "bilateral" else fact.side
        return Question("side_presence", fact.kind, side)
    single = [fact for fact in sided if fact.side in SIDES]
    if single and chooser.random() < 0.5:
        fact = chooser.choice(single)
        return Question("side_presence", fact.kind, SIDES[1 - SIDES.index(fact.side)])
    pool = [kind for kind in absent if kind in SIDED] or [fact.kind for fact in sided]
    return Question("side_presence", chooser.choice(pool), chooser.choice(SIDES))


def draw_open(merged: Mapping[str, FindingFact], chooser: random.Random) -> Question:
    """A question whose answer is a side, a size, a change, a depth or what lies in a zone."""
    facts = [merged[kind] for kind in sorted(merged)]
    makers: list[Question] = [Question("side", f.kind) for f in facts if f.kind in SIDED]
    makers += [Question("size", f.kind) for f in facts if f.kind in GRADED]
    makers += 2 * [Question("change", f.kind) for f in facts if f.change]
    makers += [Question("depth", f.kind) for f in facts if f.depth]
    makers += 2 * [Question("zone", side=f.side, zone=f.zone) for f in facts if f.zone and f.side in SIDES]
    if not makers or chooser.random() < 0.12:
        return Question("zone", side=chooser.choice(SIDES), zone=chooser.choice(ZONES))
    return chooser.choice(makers)


def answer_text(question: Question, study: StudyFacts, language: str) -> str:
    """The true answer to ``question`` about ``study``. Raises KeyError for an open one about what is not there."""
    merged = {fact.kind: fact for fact in merge_sides(study.facts)}
    kind = question.kind
    if question.form == "zone":
        return _zone_answer(question, study, language)
    if question.closed:
        sides = {placed.fact.side for placed in study.findings if placed.fact.kind == kind}
        true = {
            "normal": not merged,
            "presence": kind in merged,
            "side_presence": question.side in sides,
        }[question.form]
        return YES_NO[language][true]
    fact = merged[kind]
    if question.form == "side":
        return SIDE_ANSWERS[language][fact.side]
    if question.form == "size":
        return size_answer(kind, fact.severity, language)
    return (
        CHANGE_ANSWERS[language][fact.change]
        if question.form == "change"
        else DEPTH_ANSWERS[language][fact.depth]
    )


def _zone_answer(question: Question, study: StudyFacts, language: str) -> str:
    place = (question.side, question.zone)
    there = {p.fact.kind for p in study.findings if (p.fact.side, p.fact.zone) == place}
    names = [NAMES[language][kind] for kind in ZONED if kind in there]
    if names:
        return _answer(LIST_MARK[language].join(names), language)
    return "No nodule or consolidation." if language == "en" else "未见结节及实变。"


_EXAMPLES: dict[str, Callable[[StudyFacts, str, random.Random], Example]] = {
    "report": _report,
    "findings": _findings,
    "impression": _impression,
    "grounded_report": _grounded,
    "detect": _detect,
    "identify": _identify,
    "vqa": _vqa,
    "classify": _classify,
    "landmark": _landmark,
    "summarize": _summarize,
}
