"""The body part that a header names: by code before Body Part Examined before words (PS3.16 annex L)."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

from pipeline.images.headers import Elements, items, text
from pipeline.images.wording import folded
from pipeline.study import Code

_CODED = (("AnatomicRegionSequence", ""), ("SharedFunctionalGroupsSequence", "FrameAnatomySequence"))
_DESCRIBED = (
    "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription", "RequestedProcedureDescription",
    "StudyDescription",
)  # fmt: skip
"""Texts that may name a part, the nearest to the series first."""
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class BodyPart:
    """``term`` as Body Part Examined has it, ``name`` as people read it, its SNOMED CT code, and what lies within."""

    term: str
    name: str
    code: Code
    holds: frozenset[str] = frozenset()

    @property
    def joins(self) -> frozenset[str]:
        """The single parts that it is made of: of the abdomen and the pelvis the two."""
        return frozenset(term for term in self.holds if not _parts().terms[term].holds)

    def covers(self, term: str) -> bool:
        """Whether it is the part called ``term``, or has it within."""
        return term == self.term or term in self.holds


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A body part and the attribute that named it."""

    part: BodyPart
    source: str

    @property
    def certain(self) -> bool:
        """Whether a code or a defined term says so, and no description."""
        return self.source not in _DESCRIBED


def body_part_of(dataset: Elements) -> NamedPart | None:
    """What the header names: Anatomic Region (or Frame Anatomy), else Body Part Examined, else the one part that a
    description names. None where none is known.
    """
    return certain_part_of(dataset) or _described(dataset)


def certain_part_of(dataset: Elements) -> NamedPart | None:
    """The same by code or defined term alone."""
    by_code = _parts().codes
    for keyword, within in _CODED:
        for item in items(dataset, keyword):
            for holder in items(item, within) if within else (item,):
                for region in items(holder, "AnatomicRegionSequence") if within else (holder,):
                    if found := by_code.get(text(region, "CodeValue")):
                        return NamedPart(found, within or keyword)
    term = text(dataset, "BodyPartExamined").upper().replace(" ", "").replace("-", "")
    found = _parts().terms.get(term) or _parts().terms.get(term.replace("_", ""))
    return NamedPart(found, "BodyPartExamined") if found else None


def part_called(term: str) -> BodyPart | None:
    """The part of a defined term of Body Part Examined, in any case."""
    return _parts().terms.get(term.strip().upper())


def terms() -> Iterable[str]:
    """Every term that is known, aliases aside."""
    return sorted({part.term for part in _parts().terms.values()})


def _described(dataset: Elements) -> NamedPart | None:
    for keyword in _DESCRIBED:
        named = _parts_in(text(dataset, keyword)[:_LONGEST])
        if len(named) == 1:
            return NamedPart(named[0], keyword)
        if named:
            return None
    return None


def _parts_in(described: str) -> tuple[BodyPart, ...]:
    """The parts that a text names, each once; a part within another that is named does not count twice."""
    if not described:
        return ()
    plain = folded(described)
    table = _parts()
    words = plain.split()
    pairs = {f"{one} {other}" for one, other in pairwise(words)}
    found = [part for part in table.phrases if part in pairs]
    spoken = {word for phrase in found for word in phrase.split()}
    named = {table.phrases[phrase].term: table.phrases[phrase] for phrase in found}
    named |= {
        table.words[word].term: table.words[word]
        for word in words
        if word in table.words and word not in spoken
    }
    named |= {part.term: part for piece, part in table.pieces.items() if piece in plain}
    together = next((part for part in table.joined if part.joins == named.keys()), None)
    if together is not None:
        return (together,)
    inner = {term for part in named.values() for term in part.holds}
    return tuple(part for term, part in named.items() if term not in inner)


@dataclass(frozen=True, slots=True)
class _Parts:
    codes: Mapping[str, BodyPart]
    terms: Mapping[str, BodyPart]
    words: Mapping[str, BodyPart]
    phrases: Mapping[str, BodyPart]
    pieces: Mapping[str, BodyPart]

    @property
    def joined(self) -> Sequence[BodyPart]:
        return [part for part in self.terms.values() if part.holds]


@cache
def _parts() -> _Parts:
    source = resources.files(__package__).joinpath("body_parts.toml").read_text(encoding="utf-8")
    codes, terms_, words, phrases, pieces = (dict[str, BodyPart]() for _ in range(5))
    for term, entry in tomllib.loads(source).items():
        code = Code("SCT", entry["snomed"], entry["display"])
        part = BodyPart(term, entry["name"], code, frozenset(entry.get("holds", "").split()))
        codes |= dict.fromkeys((entry["snomed"], *entry.get("codes", "").split()), part)
        terms_ |= dict.fromkeys((term, *entry.get("aliases", "").split()), part)
        if " " in entry["name"]:
            phrases[entry["name"]] = part
        for word in folded(entry.get("words", "")).split():
            (words if word[0] < "\u2e80" else pieces)[word] = part
    return _Parts(codes, terms_, words, phrases, pieces)
