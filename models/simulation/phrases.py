"""The sentences of a report: the one vocabulary shared by the simulator, the tokenizer and every reader of drafts.

A report is ``Findings: <sentences>`` and ``Impression: <sentences>`` on two lines. Findings state lungs, pleura,
heart and devices in this order, absences included; the impression repeats what is present, or says that nothing acute
is. Every sentence ends with a full stop and holds no other one. A sentence with a word of ``NEGATION_WORDS`` states
absences.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

FINDINGS_HEADING, IMPRESSION_HEADING = "Findings:", "Impression:"
KINDS = (
    "nodule",
    "consolidation",
    "pleural_effusion",
    "pneumothorax",
    "cardiomegaly",
    "pacemaker",
    "central_venous_catheter",
)
"""Every finding the sentences can state. A mass is a nodule of severity ``large``."""
SIDES = ("right", "left")
ZONES = ("upper", "mid", "lower")
CHANGES = ("new", "unchanged", "increased", "decreased")
DEPTHS = ("anterior", "posterior")
SEVERITIES = {
    "nodule": ("small", "medium", "large"),
    "consolidation": ("small", "medium", "large"),
    "pleural_effusion": ("small", "moderate", "large"),
    "pneumothorax": ("small", "moderate", "large"),
    "cardiomegaly": ("mild", "moderate", "marked"),
    "pacemaker": ("",),
    "central_venous_catheter": ("",),
}
KIND_PATTERNS = {
    "nodule": r"\b(?:nodule|mass)\b",
    "consolidation": r"\bconsolidation\b",
    "pleural_effusion": r"\beffusions?\b",
    "pneumothorax": r"\bpneumothora(?:x|ces)\b",
    "cardiomegaly": r"\bcardiomegaly\b|\bcardiac silhouette\b|\bheart is\b",
    "pacemaker": r"\bpacemaker\b",
    "central_venous_catheter": r"\bcatheter\b",
}
"""Regular expressions, for lower-case sentences. 'leads over the heart' does not speak of the heart's size."""
NEGATION_WORDS = ("no", "not", "clear", "normal")
CLEAR_LUNGS = ("nodule", "consolidation")
"""What 'The lungs are clear.' denies."""
NO_ABNORMALITY = "No acute cardiopulmonary abnormality."
BILATERAL_WORDS = ("bilateral", "both")
SEVERITY_WORDS = {
    "nodule": {"small": "small", "mass": "large", "nodule": "medium"},
    "consolidation": {"patchy": "small", "extensive": "large", "consolidation": "medium"},
    "pleural_effusion": {word: word for word in SEVERITIES["pleural_effusion"]},
    "pneumothorax": {word: word for word in SEVERITIES["pneumothorax"]},
    "cardiomegaly": {"mild": "mild", "mildly": "mild", "moderate": "moderate", "moderately": "moderate"}
    | {"marked": "marked", "markedly": "marked"},
}
"""Per kind, the words that tell the severity, the most telling first."""


@dataclass(frozen=True, slots=True)
class FindingFact:
    """One finding as a report states it: ``side`` is right, left, bilateral or "" (the heart); ``zone`` may be "".

    ``change`` is one of ``CHANGES`` or "", given only with a prior film; ``depth`` one of ``DEPTHS`` or "", given only
    for a nodule or consolidation with a lateral film.
    """

    kind: str
    side: str = ""
    severity: str = ""
    zone: str = ""
    change: str = ""
    depth: str = ""


def _place(fact: FindingFact) -> str:
    return "both lungs" if fact.side == "bilateral" else f"the {fact.side} {fact.zone} zone"


def _nodule(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    name = {"small": "small nodule", "medium": "nodule", "large": "mass"}[fact.severity]
    short = f"{name[0].upper()}{name[1:]} in the {fact.side} {fact.zone} zone."
    place = _place(fact)
    return (f"There is a {name} in {place}.", f"A {name} projects over {place}."), (short,)


def _consolidation(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    name = {"small": "patchy consolidation", "medium": "consolidation", "large": "extensive consolidation"}
    text, place = name[fact.severity], _place(fact)
    capital = text[0].upper() + text[1:]
    return (f"There is {text} in {place}.", f"{capital} is seen in {place}."), (f"{capital} in {place}.",)


def _pleura(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    name = "pneumothorax" if fact.kind == "pneumothorax" else "pleural effusion"
    if fact.side == "bilateral":
        plural = "pneumothoraces" if fact.kind == "pneumothorax" else "pleural effusions"
        return (f"There are bilateral {plural}.", f"Bilateral {plural} are present."), (
            f"Bilateral {plural}.",
        )
    text = f"{fact.severity} {fact.side} {name}"
    capital = text[0].upper() + text[1:]
    return (f"There is a {text}.", f"A {text} is present."), (f"{capital}.",)


def _heart(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    adverb = {"mild": "mildly", "moderate": "moderately", "marked": "markedly"}[fact.severity]
    capital = fact.severity[0].upper() + fact.severity[1:]
    findings = (f"The cardiac silhouette is {adverb} enlarged.", f"There is {fact.severity} cardiomegaly.")
    return findings, (f"{capital} cardiomegaly.",)


def _device(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    capital = fact.side[0].upper() + fact.side[1:]
    if fact.kind == "pacemaker":
        first = f"A {fact.side} pacemaker is in place."
        return (first, f"A {fact.side} pacemaker has leads over the heart."), (
            f"{capital} pacemaker in place.",
        )
    first = f"A {fact.side} central venous catheter is in place."
    second = f"A {fact.side} central venous catheter projects over the superior vena cava."
    return (first, second), (f"{capital} central venous catheter in place.",)


_WORDING = {
    "nodule": _nodule,
    "consolidation": _consolidation,
    "pleural_effusion": _pleura,
    "pneumothorax": _pleura,
    "cardiomegaly": _heart,
    "pacemaker": _device,
    "central_venous_catheter": _device,
}
_ABSENT_LUNGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("nodule", "consolidation"): ("The lungs are clear.", "No consolidation or nodule is seen."),
    ("nodule",): ("No nodule is seen.",),
    ("consolidation",): ("No consolidation is seen.",),
}
_ABSENT_PLEURA: dict[tuple[str, ...], tuple[str, ...]] = {
    ("pleural_effusion", "pneumothorax"): ("No pleural effusion or pneumothorax.",),
    ("pleural_effusion",): ("No pleural effusion.",),
    ("pneumothorax",): ("No pneumothorax.",),
}
_ABSENT_HEART: dict[tuple[str, ...], tuple[str, ...]] = {
    ("cardiomegaly",): ("The cardiac silhouette is normal in size.", "The heart is not enlarged.")
}
_ORDER: tuple[tuple[tuple[str, ...], dict[tuple[str, ...], tuple[str, ...]]], ...] = (
    (("consolidation", "nodule"), _ABSENT_LUNGS),
    (("pleural_effusion", "pneumothorax"), _ABSENT_PLEURA),
    (("cardiomegaly",), _ABSENT_HEART),
    (("pacemaker", "central_venous_catheter"), {}),
)


def merge_sides(facts: Sequence[FindingFact]) -> tuple[FindingFact, ...]:
    """At most one fact per kind, in the order of ``KINDS``.

    The same kind on both sides becomes bilateral, with the greater severity.
    """
    merged = []
    for kind in KINDS:
        same = [fact for fact in facts if fact.kind == kind]
        if not same:
            continue
        worst = max(same, key=lambda fact: SEVERITIES[kind].index(fact.severity))
        sides = {fact.side for fact in same}
        one = FindingFact(kind, "bilateral", worst.severity) if len(sides) > 1 else worst
        merged.append(one)
    return tuple(merged)


def write_sections(facts: Sequence[FindingFact], chooser: random.Random) -> tuple[str, str]:
    """Findings and impression text, without headings; ``chooser`` picks among equal wordings."""
    present = {fact.kind: fact for fact in merge_sides(facts)}
    findings: list[str] = []
    impression: list[str] = []
    for kinds, absences in _ORDER:
        for kind in kinds:
            if kind in present:
                long, short = _WORDING[kind](present[kind])
                findings.append(chooser.choice(long))
                impression.append(chooser.choice(short))
        absent = tuple(kind for kind in KINDS if kind in kinds and kind not in present)
        if absent in absences:
            findings.append(chooser.choice(absences[absent]))
    return " ".join(findings), " ".join(impression or [NO_ABNORMALITY])


def join_sections(findings: str, impression: str) -> str:
    """The whole report as the model writes it."""
    return f"{FINDINGS_HEADING} {findings}\n{IMPRESSION_HEADING} {impression}"


def every_sentence() -> tuple[str, ...]:
    """Every sentence a report can hold, sorted: what a tokenizer must cover and a reader must understand."""
    sentences = {NO_ABNORMALITY}
    for kind in KINDS:
        sides = ("",) if kind == "cardiomegaly" else SIDES
        both = ("bilateral",) if kind in ("consolidation", "pleural_effusion", "pneumothorax") else ()
        zones = ZONES if kind in CLEAR_LUNGS else ("",)
        for side, severity, zone in product(sides + both, SEVERITIES[kind], zones):
            for wording in _WORDING[kind](FindingFact(kind, side, severity, zone)):
                sentences.update(wording)
    for _, absences in _ORDER:
        for wording in absences.values():
            sentences.update(wording)
    return tuple(sorted(sentences))


TOKEN_PATTERN = r" ?[A-Za-z]+|[.:]|\n"  # noqa: S105 - a word pattern
"""Tokens keep their leading space, so that joining them gives the text back exactly."""


def split_tokens(text: str) -> list[str]:
    """Tokens of a report text; joined, they are the text."""
    return re.findall(TOKEN_PATTERN, text)
