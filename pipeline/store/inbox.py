"""Instances received without being asked for, from their C-STORE to the outcome that names them: ``Store.inbox``."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.store import audit
from pipeline.store.connections import Connection, Connections
from pipeline.store.statements import statement
from pipeline.store.values import QuietStudy, Received, ReceivedOrigin
from pipeline.study import HeldInstance, InstanceRef


class Inbox:
    """See the module. Each call is one transaction and bears being repeated after a lost answer."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def record(
        self, archive: str, instances: Sequence[HeldInstance], peer: str | Sequence[str] = ""
    ) -> tuple[Received, ...]:
        """Write received instances; they are durable when this returns, and Success may be answered.

        ``peer`` is who sent them ("AE title@address"), one for all or one for each. The same bytes again are a
        duplicate; other bytes under a known SOP Instance UID are kept beside and marked as a conflict.
        """
        values = {
            "archive": archive,
            "peers": [peer] * len(instances) if isinstance(peer, str) else list(peer),
            "studies": [one.ref.study_instance_uid for one in instances],
            "series": [one.ref.series_instance_uid for one in instances],
            "instances": [one.ref.sop_instance_uid for one in instances],
            "digests": [one.sha256 for one in instances],
            "sizes": [one.size for one in instances],
            "classes": [one.sop_class_uid for one in instances],
            "syntaxes": [one.transfer_syntax_uid for one in instances],
            "paths": [str(one.path) for one in instances],
        }
        return tuple(Received(*row) for row in self._rows("record_received", values))

    def origins(self, archive: str, study_instance_uid: str) -> tuple[ReceivedOrigin, ...]:
        """Who sent what of a study is still in the inbox, and when; oldest first."""
        rows = self._rows("received_origins", {"archive": archive, "study": study_instance_uid})
        return tuple(ReceivedOrigin(*row) for row in rows)

    def quiet_studies(self, quiet_seconds: float, archive: str | None = None) -> tuple[QuietStudy, ...]:
        """Received studies, not handed over yet, of which nothing has come for ``quiet_seconds``, oldest first."""
        rows = self._rows("quiet_studies", {"archive": archive, "seconds": quiet_seconds})
        return tuple(QuietStudy(*row) for row in rows)

    def instances(self, archive: str, study_instance_uid: str) -> tuple[HeldInstance, ...]:
        """The received instances of a study whose files are still in the inbox.

        Of a UID that came with different bytes it is the first that came.
        """
        rows = self._rows("received_instances", {"archive": archive, "study": study_instance_uid})
        return tuple(HeldInstance(InstanceRef(*row[:3]), Path(row[3]), *row[4:]) for row in rows)

    def studies_among(self, archive: str, study_instance_uids: Sequence[str]) -> frozenset[str]:
        """Those of the studies of which something is still in the inbox; ask by batches."""
        rows = self._rows("received_among", {"archive": archive, "studies": list(study_instance_uids)})
        return frozenset(uid for (uid,) in rows)

    def hand_over(self, archive: str, study_instance_uid: str, newest: datetime) -> None:
        """Mark what had come by ``newest`` as handed to the ledger; a study at rest becomes work again by it."""
        self._rows("hand_over", {"archive": archive, "study": study_instance_uid, "newest": newest})

    def settle_known(
        self,
        archive: str,
        recipe: str,
        study: QuietStudy,
        announced: Collection[str],
        events: Sequence[Mapping[str, Any]],
    ) -> int:
        """Settle what waits of ``study``, with its audit, where all of it came before and the outcome in force has it.

        Returns how many instances, 0 where the study is work; nothing is written then. Those that the archive itself
        has ``announced`` (SOP Instance UIDs) are released, the others are kept.
        """
        values = {
            "archive": archive,
            "recipe": recipe,
            "study": study.study_instance_uid,
            "newest": study.newest,
            "announced": list(announced),
        }

        def work(connection: Connection) -> int:
            with connection.transaction():
                settled = len(connection.execute(statement("inbox", "settle_known"), values).fetchall())
                if settled and events:
                    audit.append(connection, audit.ACCESS_CHAIN, events)
            return settled

        return self._connections.run(work)

    def remove_released(
        self,
        remove: Callable[[Path], None],
        archive: str | None = None,
        study_instance_uids: Sequence[str] | None = None,
        *,
        limit: int = 500,
    ) -> int:
        """Remove, by ``remove``, inbox files that a stored outcome released, and forget them, in one transaction.

        Returns how many, at most ``limit``. The rows are locked meanwhile: a process that dies in between leaves them
        as they were, with the files gone, and whoever comes next forgets them; so ``remove`` must bear a file that is
        gone already.
        """
        studies = list(study_instance_uids) if study_instance_uids is not None else None
        wanted = {"archive": archive, "studies": studies, "limit": limit}

        def work(connection: Connection) -> int:
            with connection.transaction():
                rows = connection.execute(statement("inbox", "removable"), wanted).fetchall()
                for _, path in rows:
                    remove(Path(path))
                connection.execute(statement("inbox", "forget"), {"ids": [number for number, _ in rows]})
            return len(rows)

        return self._connections.run(work)

    def note_missing(self, archive: str, instances: Sequence[HeldInstance]) -> int:
        """Acknowledged instances whose files are gone: settled as "file-missing"; gives how many were not settled."""
        values = {
            "archive": archive,
            "sops": [one.ref.sop_instance_uid for one in instances],
            "paths": [str(one.path) for one in instances],
        }
        return len(self._rows("note_missing", values))

    def reopen_missing(self, folder: Path, digest: Callable[[Path], str], *, limit: int = 500) -> int:
        """Let wait again what was settled as "file-missing" and lies in the inbox ``folder`` byte for byte; how many.

        Files that cannot be read stay missing: whoever looks next looks at them again.
        """
        reopened, after = 0, 0
        while rows := self._rows("missing", {"after": after, "limit": limit}):
            after = rows[-1][0]
            found: dict[int, str] = {}
            for number, study, sop, sha256 in rows:
                path = folder / study / f"{sop}.dcm"
                with suppress(OSError):
                    if digest(path) == sha256:
                        found[number] = str(path)
            if found:
                values = {"ids": list(found), "paths": list(found.values())}
                reopened += len(self._rows("reopen_missing", values))
        return reopened

    def renew_digests(self, digest: Callable[[Path], str], *, limit: int = 500) -> int:
        """Take digests of received files anew that an earlier version took otherwise; returns how many it looked at.

        Files that are gone keep theirs: nothing can be compared with them.
        """

        def work(connection: Connection) -> int:
            rows = connection.execute(statement("inbox", "of_former_digests"), {"limit": limit}).fetchall()
            taken: dict[int, str] = {}
            for number, path in rows:
                with suppress(OSError):
                    taken[number] = digest(Path(path))
            with connection.transaction():
                values = {"ids": list(taken), "digests": list(taken.values())}
                connection.execute(statement("inbox", "renew_digests"), values)
                connection.execute(
                    statement("inbox", "mark_digests"), {"ids": [number for number, _ in rows]}
                )
            return len(rows)

        return self._connections.run(work)

    def release_kept(self, days: int) -> int:
        """Release what was kept, after an outcome named it, for more than ``days``; returns how many."""
        return len(self._rows("release_kept", {"days": days}))

    def _rows(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        def work(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement("inbox", name), values)
            return cursor.fetchall() if cursor.description else []

        return self._connections.run(work)
