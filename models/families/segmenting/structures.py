"""What a segmented structure is, by the name that its network gives it: SNOMED CT code, side, and words for people."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.report import Language, Side
from pipeline.study import Code

_TABLE = Path(__file__).with_name("structures.toml")
_SIDE = re.compile(r"(?:^|_)(left|right)(?=_|$)")
_SIDES = {
    Language.ENGLISH: {"left": "left ", "right": "right "},
    Language.CHINESE: {"left": "左", "right": "右"},
}
SNOMED = "SCT"


@dataclass(frozen=True, slots=True)
class Structure:
    """``code`` is None where the name is not in our table; ``side`` is told apart from the code."""

    name: str
    code: Code | None
    side: Side | None
    words: Mapping[Language, str]


@cache
def structure(name: str) -> Structure:
    """The structure that a network calls ``name``: "kidney_left", "Left kidney" and "left-kidney" are one."""
    plain = re.sub(r"[\W_]+", "_", name.strip()).strip("_")
    found = _SIDE.search(plain.lower())
    known = _named(plain)
    side = found[1] if found and known is None else ""
    if side:
        known = _named(_SIDE.sub("", plain.lower(), count=1).strip("_")) or _named(
            re.sub(r"_?(left|right)(?=_|$)", "", plain, flags=re.IGNORECASE).strip("_")
        )
    code = Code(SNOMED, known["code"], known["meaning"]) if known else None
    words = {
        language: _SIDES[language][side] + known[language.value] if side else known[language.value]
        for language in Language
        if known and language.value in known
    }
    told = {
        language: words.get(language) or words.get(Language.ENGLISH) or _readable(name)
        for language in Language
    }
    return Structure(name, code, Side(side) if side else None, told)


def _readable(name: str) -> str:
    return " ".join(name.replace("_", " ").split())[:64] or "?"


def _named(name: str) -> Mapping[str, str] | None:
    return _table().get(name) or _table().get(name.lower())


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))
