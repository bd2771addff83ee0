"""The sentences of a report: the one vocabulary shared by the simulator, the tokenizer and every reader of drafts.

A report is ``Findings: <sentences>`` and ``Impression: <sentences>`` on two lines. Findings state lungs, pleura,
heart and devices in this order, absences included; the impression repeats what is present, or says that nothing acute
is. Every sentence ends with a full stop and holds no other one. A sentence with a word of ``NEGATION_WORDS`` states
absences.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
DEVICES = ("pacemaker", "central_venous_catheter")
"""Kinds that are new or unchanged, but never larger or smaller."""
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


_SINCE = {
    "": "",
    "new": ", new since the prior film",
    "unchanged": ", unchanged since the prior film",
    "increased": ", larger than on the prior film",
    "decreased": ", smaller than on the prior film",
}
_SINCE_SHORT = {
    "": "",
    "new": ", new",
    "unchanged": ", unchanged",
    "increased": ", larger",
    "decreased": ", smaller",
}
_DEPTH = {
    "": "",
    "anterior": ", anteriorly on the lateral film",
    "posterior": ", posteriorly on the lateral film",
}


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
ABSENCES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("nodule", "consolidation"): ("The lungs are clear.", "No consolidation or nodule is seen."),
    ("nodule",): ("No nodule is seen.",),
    ("consolidation",): ("No consolidation is seen.",),
    ("pleural_effusion", "pneumothorax"): ("No pleural effusion or pneumothorax.",),
    ("pleural_effusion",): ("No pleural effusion.",),
    ("pneumothorax",): ("No pneumothorax.",),
    ("cardiomegaly",): ("The cardiac silhouette is normal in size.", "The heart is not enlarged."),
}
"""What is said of kinds of one group that are absent; of devices nothing is."""
ORDER = (
    ("consolidation", "nodule"),
    ("pleural_effusion", "pneumothorax"),
    ("cardiomegaly",),
    ("pacemaker", "central_venous_catheter"),
)
"""The groups of Findings, in the order in which they are spoken of."""


def english_sentences(fact: FindingFact) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Equal wordings of one finding: for Findings, and for Impression."""
    long, short = _WORDING[fact.kind](fact)
    tail = f"{_DEPTH[fact.depth]}{_SINCE[fact.change]}."
    return (
        tuple(f"{text[:-1]}{tail}" for text in long),
        tuple(f"{text[:-1]}{_SINCE_SHORT[fact.change]}." for text in short),
    )


def merge_sides(facts: Sequence[FindingFact]) -> tuple[FindingFact, ...]:
    """At most one fact per kind, in the order of ``KINDS``.

    The same kind on both sides becomes bilateral, with the greater severity; its change is kept where both agree,
    its zone and depth are not.
    """
    merged = []
    for kind in KINDS:
        same = [fact for fact in facts if fact.kind == kind]
        if not same:
            continue
        worst = max(same, key=lambda fact: SEVERITIES[kind].index(fact.severity))
        sides = {fact.side for fact in same}
        changes = {fact.change for fact in same}
        change = worst.change if len(changes) == 1 else ""
        one = FindingFact(kind, "bilateral", worst.severity, change=change) if len(sides) > 1 else worst
        merged.append(one)
    return tuple(merged)


def write_sections(facts: Sequence[FindingFact], chooser: random.Random) -> tuple[str, str]:
    """Findings and impression text in English, without headings; ``chooser`` picks among equal wordings."""
    findings, impression = choose_sentences(facts, chooser, english_sentences, ABSENCES)
    return " ".join(text for text, _ in findings), " ".join(impression or [NO_ABNORMALITY])


Absences = Mapping[tuple[str, ...], tuple[str, ...]]
Wording = Callable[[FindingFact], tuple[tuple[str, ...], tuple[str, ...]]]


def choose_sentences(
    facts: Sequence[FindingFact], chooser: random.Random, wording: Wording, absences: Absences
) -> tuple[list[tuple[str, FindingFact | None]], list[str]]:
    """The sentences of Findings, each with the finding it states (None: absences), and those of Impression."""
    present = {fact.kind: fact for fact in merge_sides(facts)}
    findings: list[tuple[str, FindingFact | None]] = []
    impression: list[str] = []
    for kinds in ORDER:
        for kind in kinds:
            if kind in present:
                long, short = wording(present[kind])
                findings.append((chooser.choice(long), present[kind]))
                impression.append(chooser.choice(short))
        absent = tuple(kind for kind in KINDS if kind in kinds and kind not in present)
        if absent in absences:
            findings.append((chooser.choice(absences[absent]), None))
    return findings, impression


def join_sections(findings: str, impression: str) -> str:
    """The whole report as the model writes it."""
    return f"{FINDINGS_HEADING} {findings}\n{IMPRESSION_HEADING} {impression}"


def every_fact() -> Iterator[FindingFact]:
    """Every finding that a report can state."""
    for kind in KINDS:
        sides = ("",) if kind == "cardiomegaly" else SIDES
        both = ("bilateral",) if kind in ("consolidation", "pleural_effusion", "pneumothorax") else ()
        changes = CHANGES[:2] if kind in DEVICES else CHANGES
        for side, severity, change in product(sides + both, SEVERITIES[kind], ("", *changes)):
            if kind in CLEAR_LUNGS and side in SIDES:
                for zone, depth in product(ZONES, ("", *DEPTHS)):
                    yield FindingFact(kind, side, severity, zone, change, depth)
            else:
                yield FindingFact(kind, side, severity, change=change)


def every_sentence() -> tuple[str, ...]:
    """Every English sentence a report can hold, sorted: what a tokenizer must cover and a reader must understand."""
    return collect_sentences(english_sentences, ABSENCES, NO_ABNORMALITY)


def collect_sentences(wording: Wording, absences: Absences, nothing: str) -> tuple[str, ...]:
    """Every sentence of one language, sorted."""
    sentences = {nothing}
    for fact in every_fact():
        for wordings in wording(fact):
            sentences.update(wordings)
    for wordings in absences.values():
        sentences.update(wordings)
    return tuple(sorted(sentences))


TOKEN_PATTERN = r" ?[A-Za-z]+|[\u4e00-\u9fff]| ?\{|[}.,:;?，。、：；？]|\n"  # noqa: S105 - a word pattern
"""Tokens keep their leading space, so that joining them gives the text back exactly; a Chinese character is one."""


def split_tokens(text: str) -> list[str]:
    """Tokens of a report text; joined, they are the text."""
    return re.findall(TOKEN_PATTERN, text)
