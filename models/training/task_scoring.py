"""Count how well the answers to the tasks beside reports agree with what is on the films. Pure Python."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import hypot

from models.families.mini.prompts import plain_text, read_boxes, read_labels, read_point, says_absent
from models.simulation.task_texts import Box, PlacedFact, StudyFacts
from models.training.label_reader import read_sentence, read_text
from models.training.scoring import share
from models.vocabulary.chinese import NO_ABNORMALITY_ZH
from models.vocabulary.english import KINDS, NO_ABNORMALITY, SEVERITIES
from models.vocabulary.task_words import NAMES, NORMAL

LEAST_OVERLAP = 0.5
LANDMARK_REACH = 5.0
"""Hundredths of the film's width: a landmark within this distance counts as found."""
Outcome = Mapping[str, float | int]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, edges as places between pixels."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return wide * high / (sum(areas) - wide * high)


def best_overlap(truth: Box, boxes: Sequence[Box]) -> float:
    """The overlap of the best of ``boxes``; 0 without any."""
    return max((overlap(truth, box) for box in boxes), default=0.0)


def _located(stated: Mapping[str, tuple[str, list[Box]]], placed: PlacedFact) -> float | None:
    """The overlap for a finding that was stated on its side, else None."""
    side, boxes = stated.get(placed.fact.kind, ("none", []))
    return best_overlap(placed.box, boxes) if side in (placed.fact.side, "bilateral") else None


def _grounded(text: str) -> dict[str, tuple[str, list[Box]]]:
    """Side and boxes of every kind a grounded report states as present."""
    body = re.sub(r"^(?:Findings:|检查所见\uff1a)", "", text)
    found = {}
    for part in re.split(r"(?<=[.。])", body):
        for stated in read_sentence(plain_text(part)) if part.strip() else ():
            if stated.present:
                found[stated.kind] = (stated.side, read_boxes(part))
    return found


def score_grounded(texts: Sequence[str], studies: Sequence[StudyFacts]) -> Outcome:
    """Regions of grounded reports: over findings stated on their side, overlap with the true box."""
    found = [
        value
        for text, study in zip(texts, studies, strict=True)
        for stated in (_grounded(text),)
        for placed in study.findings
        if (value := _located(stated, placed)) is not None
    ]
    present = sum(len(study.findings) for study in studies)
    return {
        "region_at_half": share(sum(value >= LEAST_OVERLAP for value in found), len(found)),
        "mean_overlap": share(round(sum(found)), len(found))
        if not found
        else round(sum(found) / len(found), 4),
        "counted": len(found),
        "present": present,
    }


def score_detect(asked: Sequence[tuple[str, list[Box]]]) -> Outcome:
    """Answers and the true boxes (none: the thing is absent)."""
    there = [(read_boxes(text), truths) for text, truths in asked if truths]
    absent = [text for text, truths in asked if not truths]
    hits = [best_overlap(truth, boxes) >= LEAST_OVERLAP for boxes, truths in there for truth in truths]
    said = [(boxes, truths) for boxes, truths in there if boxes]
    right = [best_overlap(truth, boxes) >= LEAST_OVERLAP for boxes, truths in said for truth in truths]
    return {
        "region_at_half_of_present": share(sum(hits), len(hits)),
        "region_at_half_of_found": share(sum(right), len(right)),
        "found": share(len(said), len(there)),
        "absent_as_absent": share(sum(says_absent(text) for text in absent), len(absent)),
        "asked": len(asked),
    }


def _same(first: str, second: str) -> bool:
    return first.strip().lower() == second.strip().lower()


def score_exact(texts: Sequence[str], answers: Sequence[str]) -> float:
    """Share of answers that are the true one, letter for letter but for case."""
    return share(sum(_same(text, answer) for text, answer in zip(texts, answers, strict=True)), len(texts))


def score_questions(texts: Sequence[str], answers: Sequence[str], forms: Sequence[str]) -> Outcome:
    """Accuracy over all closed questions, over all open ones, and of every form."""
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for text, answer, form in zip(texts, answers, forms, strict=True):
        group = "closed" if form in ("normal", "presence", "side_presence") else "open"
        for name in (group, form):
            counts[name][_same(text, answer)] += 1
    yes = [
        answer in ("Yes.", "是。")
        for answer, f in zip(answers, forms, strict=True)
        if "presence" in f or f == "normal"
    ]
    scores: dict[str, float | int] = {name: share(c[True], c.total()) for name, c in sorted(counts.items())}
    return scores | {"closed_yes_share": share(sum(yes), len(yes)), "asked": len(texts)}


def score_classes(asked: Sequence[tuple[str, tuple[str, ...], StudyFacts]]) -> Outcome:
    """Answers, the labels they had to choose among (keys of KINDS and "normal") and the truth.

    ``label_accuracy`` is over every label of every question: right when chosen if and only if true; an unreadable
    answer has all of its labels wrong. ``exact_set``: all labels of a question right. ``nothing_chosen`` is the label
    accuracy of answering "none" always.
    """
    counts: Counter[tuple[str, bool, bool]] = Counter()
    exact = right = total = never = 0
    for text, labels, study in asked:
        true = {placed.fact.kind for placed in study.findings} or {NORMAL}
        read = read_labels(text, tuple(NAMES["en"][label] for label in labels), "en")
        chosen = {label: one.chosen for label, one in zip(labels, read, strict=False)}
        correct = [chosen.get(label) == (label in true) for label in labels]
        exact, right, total = exact + all(correct), right + sum(correct), total + len(labels)
        never += sum(label not in true for label in labels)
        counts.update((label, label in true, bool(chosen.get(label))) for label in labels)
    f1 = []
    for label in (*KINDS, NORMAL):
        hit, false, missed = counts[label, True, True], counts[label, False, True], counts[label, True, False]
        f1.append(2 * hit / max(1, 2 * hit + false + missed))
    return {
        "label_accuracy": share(right, total),
        "exact_set": share(exact, len(asked)),
        "macro_f1": round(sum(f1) / len(f1), 4),
        "nothing_chosen": share(never, total),
        "asked": len(asked),
    }


def score_landmarks(asked: Sequence[tuple[str, str, tuple[int, int]]]) -> Outcome:
    """Answers, the landmark asked for and where it is."""
    near: dict[str, list[bool]] = defaultdict(list)
    for text, name, (x, y) in asked:
        point = read_point(text)
        near[name].append(point is not None and hypot(point[0] - x, point[1] - y) <= LANDMARK_REACH)
    every = [value for values in near.values() for value in values]
    scores: dict[str, float | int] = {"all": share(sum(every), len(every)), "asked": len(asked)}
    return scores | {name: share(sum(values), len(values)) for name, values in sorted(near.items())}


def score_summaries(texts: Sequence[str], studies: Sequence[StudyFacts]) -> Outcome:
    """Impressions written from the findings' text: every finding with its side and severity, and nothing else."""
    kinds = whole = 0
    for text, study in zip(texts, studies, strict=True):
        truth = {(p.fact.kind, p.fact.side) for p in study.findings}
        grades = {(p.fact.kind, p.fact.severity) for p in study.findings if len(SEVERITIES[p.fact.kind]) > 1}
        stated = [one for one in read_text(text) if one.present]
        sides = {
            (s.kind, side)
            for s in stated
            for side in (("right", "left") if s.side == "bilateral" else (s.side,))
        }
        levels = {(s.kind, s.severity) for s in stated if s.severity}
        right = sides == truth and (bool(truth) or text in (NO_ABNORMALITY, NO_ABNORMALITY_ZH))
        kinds += right
        whole += right and levels <= grades
    return {"findings_and_sides": share(kinds, len(texts)), "with_severity": share(whole, len(texts))}
