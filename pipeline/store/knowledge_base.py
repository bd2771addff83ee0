"""The site's knowledge base in Postgres' own full text: ``Store.knowledge``. What is asked is kept nowhere."""

from collections.abc import Sequence
from typing import Any

from pipeline.passages import FoundPassage, LoadedBase, Passage, Terms
from pipeline.store.connections import Connection, Connections
from pipeline.store.statements import statement


class KnowledgeBase:
    """See the module. Each call is one transaction and bears being repeated after a lost answer."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def files(self, base: str) -> dict[str, str]:
        """The digest of each loaded file of ``base`` by its path."""
        return dict(self._rows("files", {"base": base}))

    def listed(self) -> tuple[LoadedBase, ...]:
        """What is loaded, by base."""
        return tuple(LoadedBase(*row) for row in self._rows("listed", {}))

    def replace(self, base: str, path: str, digest: str, passages: Sequence[Passage]) -> None:
        """The passages of one file in place of those it had."""

        def work(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(statement("knowledge", "lock"), {"base": base})
                connection.execute(statement("knowledge", "forget"), {"base": base, "paths": [path]})
                row = connection.execute(
                    statement("knowledge", "add_file"), {"base": base, "path": path, "digest": digest}
                ).fetchone()
                assert row is not None
                with connection.cursor() as cursor:
                    cursor.executemany(
                        statement("knowledge", "add_passage"),
                        [_values(row[0], base, passage) for passage in passages],
                    )

        self._connections.run(work)

    def forget(self, base: str, paths: Sequence[str]) -> None:
        """The files ``paths`` of ``base`` are no longer part of it."""
        self._rows("forget", {"base": base, "paths": list(paths)})

    def forget_other_bases(self, bases: Sequence[str]) -> None:
        """What is loaded of other bases than these goes."""
        self._rows("forget_other_bases", {"bases": list(bases)})

    def search(self, bases: Sequence[str], asked: Terms, limit: int) -> tuple[FoundPassage, ...]:
        """Passages that have some of what is asked, those with most first."""
        values = {"bases": list(bases), "words": asked.words, "pairs": list(asked.pairs), "limit": limit}
        return tuple(FoundPassage(*row) for row in self._rows("search", values))

    def named_in(self, bases: Sequence[str], text: str, limit: int) -> tuple[FoundPassage, ...]:
        """Passages about something that ``text`` (as ``searchable`` writes it) names."""
        values = {"bases": list(bases), "text": text, "limit": limit}
        return tuple(FoundPassage(*row) for row in self._rows("named_in", values))

    def _rows(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        def work(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement("knowledge", name), values)
            return cursor.fetchall() if cursor.description else []

        return self._connections.run(work)


def _values(file_id: int, base: str, passage: Passage) -> dict[str, Any]:
    return {
        "file_id": file_id,
        "base": base,
        "place": passage.place,
        "title": passage.title,
        "content": passage.text,
        "names": list(passage.names),
        "words": passage.terms.words,
        "pairs": list(passage.terms.pairs),
    }
