"""Values of a site's knowledge base: passages of its files, and passages that a question found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """What a text is found by: Latin and other words for Postgres' own stemmer, pairs of Chinese characters."""

    words: str
    pairs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of a file. ``place`` says where it stands in it, ``names`` what it is about (a drug and its synonyms).

    ``names`` are as ``pipeline.knowledge.terms.name_key`` writes them, to be looked for in a text.
    """

    place: str
    title: str
    text: str
    terms: Terms
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage with its file: ``path`` inside the folder of ``base``, ``digest`` of the file when it was loaded.

    ``share`` is how much of what a question asks the passage has: the weights of its terms that stand in it over those
    of all its terms, 0..1.
    """

    base: str
    path: str
    digest: str
    place: str
    title: str
    text: str
    share: float


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """What of one knowledge base is loaded."""

    base: str
    files: int
    passages: int
