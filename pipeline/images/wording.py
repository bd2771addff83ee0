"""What a text or a code says about body part and view, in the languages of ``wording.toml``.

A word that is not known decides nothing.
"""

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources


class BodyRegion(StrEnum):
    """What a text or code says about the body part."""

    CHEST = "chest"
    OTHER = "other"
    UNKNOWN = ""


CHEST_CODES = frozenset({"816094009", "51185008", "43799004", "39607008", "T-D3000", "T-28000"})
"""Chest, thoracic structure, thoracic cavity, lung: SNOMED CT, SRT and SNM3 identifiers (PS3.16 CID 4031)."""
VIEW_CODES = {
    "272479007": "PA", "R-10214": "PA", "399348003": "AP", "R-10206": "AP",
    "399173006": "LL", "R-10236": "LL", "399198007": "RL", "R-10232": "RL",
}  # fmt: skip
"""SNOMED CT and SRT identifiers of PS3.16 CID 4010."""
OTHER_VIEW = "other"
LATERAL = "lateral"

_LONGEST = 2048
"""Characters of a description that are looked at; LO and SH hold 64 (PS3.5 6.2)."""
_SPINE = re.compile(
    r"\b(thora\w+|tora\w+|dorsal\w*)\s+(\w+\s+){0,2}(spine|vertebra\w*|aorta|duct|inlet|outlet)\b"
    r"|\b(spine|rachis|columna|colonne|coluna|colonna|omurga)\s+(\w+\s+)?(thora|tora|dorsa)\w*"
)
"""The thoracic spine and its like name the chest without being one."""


@dataclass(frozen=True, slots=True)
class Words:
    """One list of ``wording.toml``."""

    whole: frozenset[str]
    parts: tuple[str, ...]

    phrases: re.Pattern[str] | None = None

    def within(self, plain: str) -> bool:
        """Whether a folded text holds one of the words."""
        return (
            not self.whole.isdisjoint(plain.split())
            or any(part in plain for part in self.parts)
            or (self.phrases is not None and self.phrases.search(plain) is not None)
        )


@cache
def _words(kind: str) -> Words:
    source = resources.files(__package__).joinpath("wording.toml").read_text(encoding="utf-8")
    table = tomllib.loads(source)[kind]
    phrases = _phrases(kind) if "phrases" in table else None
    return Words(frozenset(folded(table["words"]).split()), tuple(folded(table["parts"]).split()), phrases)


@cache
def _thoracic_spine() -> re.Pattern[str]:
    """The thoracic spine in languages that say it by two words, in either order."""
    source = resources.files(__package__).joinpath("wording.toml").read_text(encoding="utf-8")
    table = tomllib.loads(source)["thoracic_spine"]
    thoracic, spine, between = (
        "|".join(folded(table[name]).split()) for name in ("thoracic", "spine", "between")
    )
    step = rf"\w*\s+(?:(?:{between})\w*\s+)?"
    return re.compile(rf"\b(?:(?:{thoracic}){step}(?:{spine})|(?:{spine}){step}(?:{thoracic}))\w*")


@cache
def _phrases(kind: str) -> re.Pattern[str]:
    """One list of expressions: what names a body part and means something else, say."""
    source = resources.files(__package__).joinpath("wording.toml").read_text(encoding="utf-8")
    return re.compile("|".join(rf"\b(?:{phrase})\b" for phrase in tomllib.loads(source)[kind]["phrases"]))


def folded(text: str) -> str:
    """``text`` in one case, without accents, words apart by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text[:_LONGEST].casefold())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    letters = (c if c.isalnum() or _is_mark(c) else " " for c in unicodedata.normalize("NFC", plain))
    return " ".join("".join(letters).split())


def _is_mark(letter: str) -> bool:
    """Whether it is a vowel sign of a script that writes them apart: a part of a word (Unicode 4.5, categories M)."""
    return unicodedata.category(letter)[0] == "M"


def region_of(text: str) -> BodyRegion:
    """What ``text`` says about the body part; UNKNOWN where it says nothing, or names the chest beside
    others.
    """
    plain = folded(text)
    if _SPINE.search(plain) or _thoracic_spine().search(plain):
        return BodyRegion.OTHER
    chest, other = (
        _words("chest").within(plain),
        _words("other").within(_phrases("accessory").sub(" ", plain)),
    )
    if chest == other:
        return BodyRegion.UNKNOWN
    return BodyRegion.CHEST if chest else BodyRegion.OTHER


def names_region(text: str) -> bool:
    """Whether ``text`` says anything about a body part, be it of two."""
    plain = folded(text)
    rest = _phrases("accessory").sub(" ", plain)
    return (
        region_of(text) is not BodyRegion.UNKNOWN
        or _words("chest").within(plain)
        or _words("other").within(rest)
    )


def names_view(text: str) -> bool:
    """Whether ``text`` says anything about a view, be it of two."""
    plain = _viewed(text)
    return bool({"pa", "ap"} & set(plain.split())) or any(
        _words(kind).within(plain) for kind in ("lateral", "other_view", "frontal")
    )


def view_of(text: str) -> str:
    """``PA``, ``AP``, ``LL``, ``RL``, ``lateral``, ``other`` or "" from a view position or a description."""
    plain = _viewed(text)
    if _words("other_view").within(plain):
        return OTHER_VIEW
    frontal = {"pa", "ap"} & set(plain.split())
    lateral = _words("lateral").within(plain)
    if lateral:
        both = frontal or _words("frontal").within(plain)
        return "" if both else {"ll": "LL", "rl": "RL"}.get(plain, LATERAL)
    return next(iter(frontal)).upper() if len(frontal) == 1 else ""


def _viewed(text: str) -> str:
    """``text`` folded, with the ways of writing PA and AP as one word, and without what only looks like a view."""
    plain = folded(text)
    for kind, meant in (("no_other_view", " "), ("pa", "pa"), ("ap", "ap")):
        plain = _phrases(kind).sub(meant, plain)
    return " ".join(plain.split())


def view_of_code(value: str, meaning: str) -> str:
    """The view of a View Code Sequence item (PS3.16 CID 4010)."""
    return VIEW_CODES.get(value) or view_of(meaning)


def is_of_one_tissue(text: str) -> bool:
    """Whether a description speaks of the bone or the soft tissue alone, or of a dual-energy set's parts."""
    return _words("one_tissue").within(_phrases("film").sub(" ", folded(text)))


def is_processed(text: str) -> bool:
    """Whether a description speaks of a picture made from the film: bone suppression, CAD, a screen shot.

    What a device does to every film, say the suppression of grid lines, leaves it a film.
    """
    plain = _phrases("film").sub(" ", folded(text))
    return _words("processed").within(plain) or _phrases("made").search(plain) is not None
