"""Instances received without being asked for: durable before the sender is told Success."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pipeline.store.connections import Connection
from pipeline.store.statements import statement
from pipeline.store.values import QuietStudy, Received, ReceivedOrigin
from pipeline.study import HeldInstance, InstanceRef


def record_received(
    connection: Connection, archive: str, instances: Sequence[HeldInstance], peers: Sequence[str]
) -> tuple[Received, ...]:
    """Write the instances, committed and flushed; see ``Store.record_received``."""
    rows = connection.execute(
        statement("inbox", "record_received"),
        {
            "archive": archive,
            "peers": list(peers),
            "studies": [one.ref.study_instance_uid for one in instances],
            "series": [one.ref.series_instance_uid for one in instances],
            "instances": [one.ref.sop_instance_uid for one in instances],
            "digests": [one.sha256 for one in instances],
            "sizes": [one.size for one in instances],
            "classes": [one.sop_class_uid for one in instances],
            "syntaxes": [one.transfer_syntax_uid for one in instances],
            "paths": [str(one.path) for one in instances],
        },
    ).fetchall()
    return tuple(Received(*row) for row in rows)


def received_origins(
    connection: Connection, archive: str, study_instance_uid: str
) -> tuple[ReceivedOrigin, ...]:
    """Who sent what of a study is still in the inbox, oldest first."""
    rows = connection.execute(
        statement("inbox", "received_origins"), {"archive": archive, "study": study_instance_uid}
    ).fetchall()
    return tuple(ReceivedOrigin(*row) for row in rows)


def quiet_studies(
    connection: Connection, quiet_seconds: float, archive: str | None
) -> tuple[QuietStudy, ...]:
    """Studies not handed over yet of which nothing has come for ``quiet_seconds``; longest quiet first."""
    rows = connection.execute(
        statement("inbox", "quiet_studies"), {"archive": archive, "seconds": quiet_seconds}
    ).fetchall()
    return tuple(QuietStudy(*row) for row in rows)


def received_instances(
    connection: Connection, archive: str, study_instance_uid: str
) -> tuple[HeldInstance, ...]:
    """What is held of a study; of a UID that came with different bytes, the first that came."""
    rows = connection.execute(
        statement("inbox", "received_instances"), {"archive": archive, "study": study_instance_uid}
    ).fetchall()
    return tuple(HeldInstance(InstanceRef(*row[:3]), Path(row[3]), *row[4:]) for row in rows)


def received_among(
    connection: Connection, archive: str, study_instance_uids: Sequence[str]
) -> frozenset[str]:
    """Those of the studies of which something is still in the inbox."""
    rows = connection.execute(
        statement("inbox", "received_among"), {"archive": archive, "studies": list(study_instance_uids)}
    ).fetchall()
    return frozenset(uid for (uid,) in rows)


def hand_over(connection: Connection, archive: str, study_instance_uid: str, newest: datetime) -> None:
    """Mark what had come by ``newest`` as handed to the ledger; what comes later makes the study wait again."""
    connection.execute(
        statement("inbox", "hand_over"), {"archive": archive, "study": study_instance_uid, "newest": newest}
    )


def settle_known(
    connection: Connection, archive: str, recipe: str, study: QuietStudy, announced: Collection[str]
) -> int:
    """Settle what was pushed again as it was; returns how many instances, 0 where anything of the study is new."""
    values = {
        "archive": archive,
        "recipe": recipe,
        "study": study.study_instance_uid,
        "newest": study.newest,
        "announced": list(announced),
    }
    return len(connection.execute(statement("inbox", "settle_known"), values).fetchall())


def remove_released(
    connection: Connection,
    remove: Callable[[Path], None],
    archive: str | None,
    study_instance_uids: Sequence[str] | None,
    limit: int,
) -> int:
    """Remove the files that an outcome released, and forget them, in one transaction; returns how many.

    The rows are locked meanwhile: a process that dies in between leaves them as they were, with the files gone, and
    whoever comes next forgets them.
    """
    studies = list(study_instance_uids) if study_instance_uids is not None else None
    with connection.transaction():
        rows = connection.execute(
            statement("inbox", "removable"), {"archive": archive, "studies": studies, "limit": limit}
        ).fetchall()
        for _, path in rows:
            remove(Path(path))
        connection.execute(statement("inbox", "forget"), {"ids": [number for number, _ in rows]})
    return len(rows)


def renew_digests(connection: Connection, digest: Callable[[Path], str], limit: int) -> int:
    """Take the digests anew that an earlier version took otherwise; returns how many were looked at.

    Files that are gone keep theirs: nothing can be compared with them.
    """
    rows = connection.execute(statement("inbox", "of_former_digests"), {"limit": limit}).fetchall()
    taken: dict[int, str] = {}
    for number, path in rows:
        with suppress(OSError):
            taken[number] = digest(Path(path))
    with connection.transaction():
        values = {"ids": list(taken), "digests": list(taken.values())}
        connection.execute(statement("inbox", "renew_digests"), values)
        connection.execute(statement("inbox", "mark_digests"), {"ids": [number for number, _ in rows]})
    return len(rows)


def note_missing(connection: Connection, archive: str, instances: Sequence[HeldInstance]) -> int:
    """Say of acknowledged instances that their files are gone; returns how many were not settled yet."""
    values = {
        "archive": archive,
        "sops": [one.ref.sop_instance_uid for one in instances],
        "paths": [str(one.path) for one in instances],
    }
    return len(connection.execute(statement("inbox", "note_missing"), values).fetchall())


def release_kept(connection: Connection, days: int) -> int:
    """Release what an outcome named more than ``days`` ago and no archive had; returns how many."""
    return len(connection.execute(statement("inbox", "release_kept"), {"days": days}).fetchall())
