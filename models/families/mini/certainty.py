"""The text of a draft from what real films taught: states what is likely, calls possible what may be, denies the rest.

The language model writes from what simulation taught. Where a rule fitted to real films reads the film (``films``), the
rule decides whether a finding is written and how surely; the model's sentence stays where both state it, and side, zone
and size are always those of the model or its heads. The same reading answers classification, closed questions and
detection, so that no two answers about one film differ. Devices, of which there are no labels, stay the model's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.drafting.findings_text import read_findings, split_sentences
from models.families.mini.domain import DOMAIN_FILE, Domain
from models.families.mini.films import RULED, Certainty, FilmRule, Reading, read_film_rule
from models.families.mini.places import Places
from models.vocabulary.chinese import ABSENCES_ZH, FINDINGS_HEADING_ZH, NO_ABNORMALITY_ZH, chinese_sentences
from models.vocabulary.english import (
    ABSENCES,
    DEVICES,
    FINDINGS_HEADING,
    KINDS,
    NO_ABNORMALITY,
    ORDER,
    SEVERITIES,
    SIDES,
    ZONES,
    FindingFact,
    english_sentences,
    every_fact,
)
from models.vocabulary.hedges import UNSURE_FINDINGS, UNSURE_IMPRESSION, possible_sentences
from models.vocabulary.prompts import headed
from models.vocabulary.task_words import (
    FULL_STOP,
    LIST_MARK,
    NAMES,
    NO_LABEL,
    NORMAL,
    SIDED,
    YES_NO,
    every_question,
    every_target,
    question_text,
)

_PROMPT = re.compile(r"<(\w+)><(\w+)>(.*)", re.DOTALL)
WRITTEN = ("report", "findings", "impression", "grounded_report")
BOTH_SIDED = ("consolidation", "pleural_effusion", "pneumothorax")
"""Kinds with a sentence for both sides; of the others the likelier side is told."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RealReader:
    """The ``rule`` of a weights folder, if it has one, and the ``domain`` that tells real films from simulated ones."""

    rule: FilmRule | None
    domain: Domain | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Of a weights folder. Raises StopRun for files that are not what they should be."""
        domain = Domain.load(folder) if (folder / DOMAIN_FILE).exists() else None
        return cls(read_film_rule(folder), domain)

    def read(self, arrays: Mapping[str, NDArray[Any]]) -> list[Reading | None]:
        """What the rule says of each film of ``arrays``; None of one that looks simulated, and without a rule."""
        if self.rule is None:
            return [None] * len(arrays["pooled"])
        readings: list[Reading | None] = [*self.rule.read(arrays)]
        if self.domain is not None:
            for place in np.flatnonzero(self.domain.simulated(arrays["pooled"])):
                readings[place] = None
        return readings


@dataclass(frozen=True, slots=True)
class Shown:
    """One film: the ``reading`` of the rule, and what the heads say of where and how large each finding is.

    ``severity`` and ``zone`` are logits [slots, 3].
    """

    reading: Reading
    places: Places
    severity: Floats
    zone: Floats

    def fact(self, kind: str) -> FindingFact:
        """``kind`` as a sentence states it."""
        row = KINDS.index(kind)
        if kind not in SIDED:
            return FindingFact(kind, severity=self._level(kind, row * len(SIDES)))
        chances = self.places.presence[row, 1:]
        if kind in BOTH_SIDED and (chances > 0).all():
            slots = [row * len(SIDES) + place for place in range(len(SIDES))]
            worst = max((self._level(kind, slot) for slot in slots), key=SEVERITIES[kind].index)
            return FindingFact(kind, "bilateral", worst)
        side = int(chances.argmax())
        slot = row * len(SIDES) + side
        zone = ZONES[int(self.zone[slot].argmax())] if kind in ("nodule", "consolidation") else ""
        return FindingFact(kind, SIDES[side], self._level(kind, slot), zone)

    def _level(self, kind: str, slot: int) -> str:
        return SEVERITIES[kind][int(self.severity[slot].argmax())]

    @property
    def normal(self) -> bool:
        """Whether the film may be called normal; a device is not normal either."""
        devices = [KINDS.index(kind) for kind in DEVICES]
        return self.reading.normal and not (self.places.presence[devices, 0] > 0).any()

    def claims(self, kind: str) -> bool:
        """Whether the draft states the finding or calls it possible."""
        return self.reading.certainty[kind] >= Certainty.POSSIBLE


def write_certain(prompt: str, answer: str, shown: Shown) -> str:
    """``answer`` to ``prompt`` as the reading of the film has it; an answer that it does not bear on is left."""
    match = _PROMPT.match(prompt)
    if match is None:
        return answer
    task, language, asked = match.groups()
    if task in WRITTEN:
        return _written(task, language, answer, shown)
    rewrite = _ANSWERS.get(task)
    return answer if rewrite is None else rewrite(asked, language, answer, shown)


def _split(answer: str, language: str) -> tuple[list[str], list[str]]:
    """The sentences of Findings and of Impression, without headings."""
    sections = {True: "", False: ""}
    mark = FINDINGS_HEADING if language == "en" else FINDINGS_HEADING_ZH
    for line in answer.strip().split("\n"):
        heading, _, body = line.partition(":" if language == "en" else mark[-1])
        sections[heading == mark[:-1]] = body.strip()
    return list(split_sentences(sections[True])), list(split_sentences(sections[False]))


def _stating(sentences: Sequence[str], kind: str) -> list[str]:
    """The sentences that state ``kind`` as present."""
    bare = [re.sub(r" ?\{[^{}]*\}", "", sentence) for sentence in sentences]
    return [
        sentence
        for sentence, said in zip(sentences, bare, strict=True)
        if any(finding.kind == kind and finding.present for finding in read_findings(said))
    ]


def _written(task: str, language: str, answer: str, shown: Shown) -> str:
    findings, impression = _split(answer, language)
    boxed = task == "grounded_report"
    sections = []
    if task != "impression":
        told = _findings(language, findings, shown, boxed) or [UNSURE_FINDINGS[language]]
        sections.append(headed("findings", _join(told, language), language))
    if task in ("report", "impression"):
        sections.append(
            headed("impression", _join(_impression(language, impression, shown), language), language)
        )
    return "\n".join(sections)


def _join(sentences: Sequence[str], language: str) -> str:
    return (" " if language == "en" else "").join(sentences)


def _findings(language: str, own: Sequence[str], shown: Shown, boxed: bool) -> list[str]:
    absences, told = ABSENCES if language == "en" else ABSENCES_ZH, []
    for kinds in ORDER:
        for kind in kinds:
            said = _stating(own, kind)
            if kind in RULED and shown.claims(kind):
                told += _claim(kind, language, said, shown, boxed)
            elif kind not in RULED:
                told += said
        denied = [k for k in kinds if k in RULED and shown.reading.certainty[k] is Certainty.DENIED]
        key = tuple(kind for kind in KINDS if kind in denied)
        if key in absences:
            kept = [sentence for sentence in own if sentence in absences[key]]
            told.append((kept or list(absences[key]))[0])
    return told


def _claim(kind: str, language: str, own: Sequence[str], shown: Shown, boxed: bool) -> list[str]:
    """The sentences of one finding that is stated or possible, with its boxes where they are asked for."""
    if shown.reading.certainty[kind] is Certainty.STATED:
        if own:
            return list(own)
        wording = english_sentences if language == "en" else chinese_sentences
        fact = shown.fact(kind)
        text = wording(fact)[0][0]
    else:
        fact = _side_told(own, shown.fact(kind))
        text = possible_sentences(fact, language)[0]
    if not boxed:
        return [text]
    sides = SIDES if fact.side == "bilateral" else (fact.side,) if fact.side else ()
    gap = " " if language == "en" else ""
    return [f"{text[:-1]}{gap}{shown.places.finding(kind, tuple(sides))}{text[-1]}"]


def _side_told(own: Sequence[str], fact: FindingFact) -> FindingFact:
    """``fact`` on the side and in the zone that the model's own sentence gives it, if it has one."""
    told = [
        one for sentence in own for one in read_findings(sentence) if one.kind == fact.kind and one.present
    ]
    if not told or told[0].side is None:
        return fact
    return replace(fact, side=str(told[0].side), zone=told[0].zone or fact.zone)


def _impression(language: str, own: Sequence[str], shown: Shown) -> list[str]:
    told = []
    wording = english_sentences if language == "en" else chinese_sentences
    for kind in (kind for kinds in ORDER for kind in kinds):
        said = _stating(own, kind)
        if kind not in RULED:
            told += said
        elif shown.reading.certainty[kind] is Certainty.STATED:
            told += said or [wording(shown.fact(kind))[1][0]]
        elif shown.claims(kind):
            told.append(possible_sentences(_side_told(said, shown.fact(kind)), language)[1])
    if told:
        return told
    if shown.reading.normal:
        return [NO_ABNORMALITY if language == "en" else NO_ABNORMALITY_ZH]
    return [UNSURE_IMPRESSION[language]]


def _classified(asked: str, language: str, answer: str, shown: Shown) -> str:
    """The labels of the prompt that hold: claimed findings, "normal" where the film may be called so, own devices."""
    mark = LIST_MARK[language]
    keys = {name: key for key, name in NAMES[language].items()}
    said = {part.strip().lower() for part in answer.strip(" .。").split(mark.strip())}

    def holds(name: str) -> bool:
        key = keys.get(name, name)
        if key == NORMAL:
            return shown.normal
        return shown.claims(key) if key in RULED else name.lower() in said

    listed = re.split("[:：]", asked)[-1].rstrip("?？")
    labels = [name.strip() for name in listed.split(mark) if name.strip()]
    text = mark.join(name for name in labels if holds(name)) or NO_LABEL[language]
    return f"{text[0].upper()}{text[1:]}{FULL_STOP[language]}"


def _questioned(asked: str, language: str, answer: str, shown: Shown) -> str:
    question = next((one for one in every_question() if question_text(one, language) == asked.strip()), None)
    if question is None or not question.closed:
        return answer
    if question.form == "normal":
        return YES_NO[language][shown.normal]
    if question.kind not in RULED:
        return answer
    there = shown.claims(question.kind)
    if there and question.form == "side_presence":
        there = shown.fact(question.kind).side in (question.side, "bilateral")
    return YES_NO[language][there]


def _detected(asked: str, language: str, answer: str, shown: Shown) -> str:
    named = [target for target in every_target(language) if target[0] in asked]
    if not named:
        return answer
    words, kind, side = max(named, key=lambda target: len(target[0]))
    if kind not in RULED:
        return answer
    there = shown.claims(kind) and (not side or shown.fact(kind).side in (side, "bilateral"))
    if there:
        return answer if "{" in answer else shown.places.finding(kind, (side,) if side else ())
    return f"No {words}." if language == "en" else f"未见{words}。"


_ANSWERS: dict[str, Callable[[str, str, str, Shown], str]] = {
    "classify": _classified,
    "vqa": _questioned,
    "detect": _detected,
}


@cache
def _possible(language: str) -> dict[str, str]:
    """What Impression says, by what Findings says, of everything possible."""
    said = dict(possible_sentences(fact, language) for fact in every_fact() if fact.kind in RULED)
    return said | {UNSURE_FINDINGS[language]: UNSURE_IMPRESSION[language]}


def split_possible(text: str, language: str) -> tuple[str, list[str]]:
    """A findings text without the sentences of this module, whose words the language model does not know.

    Second, what an Impression says in their place.
    """
    known = _possible(language)
    body = text.strip()
    heading = FINDINGS_HEADING if language == "en" else FINDINGS_HEADING_ZH
    sentences = split_sentences(body.removeprefix(heading).strip())
    rest = [sentence for sentence in sentences if sentence not in known]
    told = [known[sentence] for sentence in sentences if sentence in known]
    if not told:
        return text, []
    absences = ABSENCES if language == "en" else ABSENCES_ZH
    return _join(rest, language) or next(iter(absences.values()))[0], told


def join_possible(summary: str, told: Sequence[str], language: str) -> str:
    """The summary of the rest, and what is possible; of a rest without findings what is possible alone."""
    nothing = NO_ABNORMALITY if language == "en" else NO_ABNORMALITY_ZH
    if not told:
        return summary
    return _join([*([] if summary.strip() == nothing else [summary.strip()]), *told], language)
