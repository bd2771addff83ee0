"""A site's knowledge base: its folders brought into the store, and what they say of a question or a text.

What is asked is kept nowhere: neither in the database nor in a log.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.errors import ConfigurationError
from pipeline.knowledge.citing import worth_citing
from pipeline.knowledge.files import digest_now, files_of, passages_of
from pipeline.knowledge.terms import searchable, terms_of
from pipeline.passages import FoundPassage
from pipeline.setting_lists import KnowledgeSettings
from pipeline.settings import Settings
from pipeline.store.store import Store

LOOKED_AT = 20
MOST_BESIDE = 12
"""Passages shown beside a draft."""
LONGEST_QUESTION = 2000


@dataclass(slots=True)
class LoadedFolder:
    """What loading one folder did; ``refused`` are the files that could not be read, each with why."""

    base: str
    loaded: int = 0
    unchanged: int = 0
    removed: int = 0
    passages: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def configured(settings: Settings) -> tuple[KnowledgeSettings, ...]:
    """The site's knowledge bases. Raises ConfigurationError where there is none."""
    if not settings.knowledge:
        raise ConfigurationError(
            "knowledge", "no knowledge base is configured: name a folder by [[knowledge]] name and path"
        )
    return settings.knowledge


def load_all(store: Store, bases: Sequence[KnowledgeSettings]) -> Iterator[LoadedFolder]:
    """Bring every base as it is now into the store; what is gone, changed or not configured any more goes.

    Raises ConfigurationError for a folder that cannot be read; its passages stay, and none is cited whose file changed.
    """
    store.knowledge.forget_other_bases([one.name for one in bases])
    for base in bases:
        yield _load(store, base)


def not_loaded(store: Store, base: KnowledgeSettings) -> int:
    """How many files of a base are not loaded as they are now, those that are gone counted too.

    Raises ConfigurationError for a folder that cannot be read.
    """
    known = store.knowledge.files(base.name)
    now = {file.path: file.digest or None for file in files_of(base.path, base.encoding)}
    return sum(known.get(path) != now.get(path) for path in known.keys() | now.keys())


def found(store: Store, bases: Sequence[KnowledgeSettings], question: str) -> tuple[FoundPassage, ...]:
    """The passages that answer ``question``, best first; none where the base does not hold it.

    Raises ConfigurationError for an empty question or one that is too long.
    """
    if not question.strip():
        raise ConfigurationError("knowledge", "ask something: the question is empty")
    if len(question) > LONGEST_QUESTION:
        raise ConfigurationError("knowledge", f"ask in at most {LONGEST_QUESTION} characters")
    every = store.knowledge.search([one.name for one in bases], terms_of(question), LOOKED_AT)
    return worth_citing(_as_they_are(bases, every))


def named(store: Store, bases: Sequence[KnowledgeSettings], text: str) -> tuple[FoundPassage, ...]:
    """Passages about the agents, drugs and terms that ``text`` names by a name of the base."""
    every = store.knowledge.named_in([one.name for one in bases], searchable(text), MOST_BESIDE)
    return _as_they_are(bases, every)


def _as_they_are(
    bases: Sequence[KnowledgeSettings], every: Sequence[FoundPassage]
) -> tuple[FoundPassage, ...]:
    """Those of ``every`` whose files say the same now as when they were loaded."""
    homes = {one.name: one for one in bases}
    files = {(one.base, one.path) for one in every}
    now = {(base, path): digest_now(homes[base].path, path, homes[base].encoding) for base, path in files}
    return tuple(one for one in every if now[one.base, one.path] == one.digest)


def _load(store: Store, base: KnowledgeSettings) -> LoadedFolder:
    did, known, held = LoadedFolder(base.name), store.knowledge.files(base.name), set()
    for file in files_of(base.path, base.encoding):
        if file.fault:
            did.refused.append((file.path, file.fault))
            continue
        if known.get(file.path) == file.digest:
            did.unchanged += 1
            held.add(file.path)
            continue
        try:
            passages = passages_of(file, base.encoding, did.left_out)
        except ValueError as error:
            did.refused.append((file.path, str(error)))
            continue
        store.knowledge.replace(base.name, file.path, file.digest, passages)
        held.add(file.path)
        did.loaded += 1
        did.passages += len(passages)
    gone = sorted(known.keys() - held)
    store.knowledge.forget(base.name, gone)
    did.removed = len(gone)
    return did


@dataclass(frozen=True, slots=True)
class SiteKnowledge:
    """The loaded bases, as the pages read them: nothing is loaded by who looks."""

    store: Store
    bases: tuple[KnowledgeSettings, ...]

    def named(self, text: str) -> tuple[FoundPassage, ...]:
        """See ``named``."""
        return named(self.store, self.bases, text)

    def found(self, question: str) -> tuple[FoundPassage, ...]:
        """See ``found``."""
        return found(self.store, self.bases, question)
