"""Is the draft a report at all: both sections, ended, not looping, in its language, free of model residue."""
# ruff: noqa: RUF001  Chinese punctuation ends sentences too.

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.checks.evidence import Evidence, Problem, failed, warned
from pipeline.checks.reading import MAX_CHARACTERS, sentences
from pipeline.checks.term import words
from pipeline.report import ImpressionSource, Language

LONGEST_LOOP = 12
"""Tokens of the longest phrase whose immediate repetition is looked for."""
LOOP_TURNS = 4
"""Turns after which a repeated phrase is a loop; a phrase of three tokens or more loops one turn earlier."""
SENTENCE_TURNS = 3
"""Times a section may not say the same sentence."""
FOREIGN_SHARE = 0.10
"""Share of letters in another script that makes a draft one in another language."""

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_]+")
_ENDED = re.compile(r"[.!?。！？)）\]”\"']\s*$")
_RESIDUE = words(
    r"<\|[^|]{0,40}\|>",
    r"</?(?:s|eos|pad|unk|bos|image|think|box)>",
    r"\[/?INST\]",
    r"<image_\w*>",
    r"\bas an? (?:AI|language model|artificial)",
    r"\bI(?:'m| am) (?:sorry|unable|an AI)\b",
    r"\bI cannot (?:provide|interpret|see)\b",
    "https?://",
    r"\]\(",
    "```",
    "\ufffd",
    "作为(?:一个)?(?:AI|人工智能)",
)
_ENGLISH = frozenset(
    ["the", "is", "are", "there", "of", "in", "and", "with", "no", "a", "was", "seen", "to", "for"]
)
_OTHER_LATIN = frozenset(
    (
        *("el", "los", "las", "del", "una", "sin", "con", "derrame", "derecho", "izquierdo", "hay", "tamaño"),
        *("se", "observa", "observan", "pulmones", "corazón", "por", "para", "su", "es", "normales"),
        *("der", "die", "das", "und", "nicht", "keine", "kein", "mit", "ist", "links", "rechts", "im", "des"),
        *("ein", "eine", "sind", "lunge", "herz", "herzgröße", "keinen", "kleiner", "beidseits", "auf"),
        *("le", "les", "est", "une", "pas", "sans", "droit", "gauche", "avec", "du", "au", "sont", "aux"),
        *("il", "della", "senza", "destro", "sinistro", "di", "del", "nei", "si", "sono", "polmoni", "cuore"),
        *("não", "sem", "uma", "direito", "esquerdo", "são", "dos", "das", "há", "pulmões", "coração"),
        *("de", "het", "een", "geen", "van", "zijn", "niet", "met", "hart", "longen", "links", "beide"),
        *("och", "inte", "inga", "inget", "ett", "med", "är", "ej", "hjärta", "lungor", "höger", "vänster"),
        *("og", "ikke", "ingen", "et", "til", "venstre", "højre", "høyre", "hjerte", "lunger"),
        *("i", "nie", "jest", "bez", "oraz", "w", "z", "na", "płuca", "serce", "obu", "stronie", "zmian"),
        *("je", "není", "jsou", "bez", "plíce", "srdce", "vlevo", "vpravo", "și", "fără", "este", "nu"),
        *("ve", "yok", "bir", "sağ", "sol", "kalp", "akciğer", "izlenmedi", "normaldir", "tidak", "dan"),
        *("paru", "jantung", "kanan", "kiri", "không", "có", "phổi", "tim", "trái", "phải", "và", "tràn"),
        *("ja", "ei", "ole", "keuhkot", "sydän", "és", "nem", "nincs", "tüdő", "szív"),
    )
)
"""Frequent words and words of reports in other languages, none of them English but "die", "dan", "tim" and "i"."""
_ACCENTED = re.compile(r"[^\W\d_a-z]")
"""A letter that English does not have, in a lower-case word."""


def sections(evidence: Evidence) -> Iterator[Problem]:
    """A section is empty, holds no words, or is longer than any report; an impression that nobody wrote is said so."""
    unwritten = evidence.draft.impression_source is ImpressionSource.UNWRITTEN
    for name, text in _named_sections(evidence):
        if name == "impression" and unwritten and not text:
            yield warned("no impression was written: the model writes findings only")
        elif not _TOKEN.search(text[:MAX_CHARACTERS]):
            yield failed(f"{name} is empty")
        if len(text) > MAX_CHARACTERS:
            yield failed(f"{name} is longer than any report")


def truncated(evidence: Evidence) -> Iterator[Problem]:
    """The model was cut off, or the impression does not end like a sentence."""
    if evidence.draft.truncated:
        yield failed("the draft was cut off before its end")
    elif evidence.draft.impression_text.strip() and not _ENDED.search(evidence.draft.impression_text):
        yield warned("the impression does not end like a sentence")


def repetition(evidence: Evidence) -> Iterator[Problem]:
    """A sentence comes again and again, or a phrase loops."""
    for name, text in _named_sections(evidence):
        counts = Counter(" ".join(_tokens(sentence)) for sentence in sentences(text))
        most = max((count for sentence, count in counts.items() if sentence), default=0)
        if most >= SENTENCE_TURNS or _loops(_tokens(text[:MAX_CHARACTERS])):
            yield failed(f"{name} repeats itself in a loop")
        elif most == SENTENCE_TURNS - 1:
            yield warned(f"{name} says the same sentence twice")


def language(evidence: Evidence) -> Iterator[Problem]:
    """The draft is not written in the language it was asked for."""
    scripts = Counter(_script(character) for character in evidence.text if character.isalpha())
    letters = sum(scripts.values())
    if not letters:
        return
    expected = "han" if evidence.draft.language is Language.CHINESE else "latin"
    allowed = {"han", "latin", "greek"} if expected == "han" else {"latin", "greek"}
    foreign = sum(count for script, count in scripts.items() if script not in allowed) / letters
    if scripts[expected] / letters < 0.5 or foreign > FOREIGN_SHARE:
        yield failed("the draft is not in the language asked for")
    elif foreign:
        yield warned("the draft holds letters of another script")
    elif expected == "latin":
        if _foreign(_tokens(evidence.text[:MAX_CHARACTERS]), 3):
            yield failed("the draft is not in the language asked for")
        elif any(_foreign(_tokens(sentence), 2) for sentence in evidence.sentences):
            yield warned("a sentence of the draft is not in the language asked for")


def residue(evidence: Evidence) -> Iterator[Problem]:
    """The draft holds prompt markers, links, undecodable characters or a refusal instead of a report."""
    if _RESIDUE.search(evidence.text[: 2 * MAX_CHARACTERS]):
        yield failed("the draft holds something that is not report text")
    elif any(
        unicodedata.category(character) in ("Cc", "Cs", "Co")
        for character in set(evidence.text) - set("\n\r\t")
    ):
        yield failed("the draft holds control characters")


def _foreign(tokens: Sequence[str], least: int) -> bool:
    """True where ``least`` words or more are those of another language in Latin script, and more than the English.

    A word with a letter that English does not have is one of another language.
    """
    counts = Counter(tokens)
    other = sum(n for word, n in counts.items() if word in _OTHER_LATIN or _ACCENTED.search(word))
    return other >= least and other > sum(counts[word] for word in _ENGLISH)


def _named_sections(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    return ("findings", evidence.draft.findings_text), ("impression", evidence.draft.impression_text)


def _tokens(text: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(text)]


def _loops(tokens: Sequence[str]) -> bool:
    """True where a phrase of at most LONGEST_LOOP tokens follows itself often enough."""
    for length in range(1, LONGEST_LOOP + 1):
        turns = LOOP_TURNS if length < 3 else LOOP_TURNS - 1
        run = 0
        for index in range(length, len(tokens)):
            run = run + 1 if tokens[index] == tokens[index - length] else 0
            if run >= length * (turns - 1):
                return True
    return False


def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("CJK"):
        return "han"
    return name.split(" ", 1)[0].lower()
