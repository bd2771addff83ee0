"""Instances received without being asked for: durable before the sender is told Success."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.store.connections import Connection
from pipeline.store.statements import statement
from pipeline.store.values import QuietStudy, Received
from pipeline.study import HeldInstance, InstanceRef


def record_received(
    connection: Connection, archive: str, instances: Sequence[HeldInstance], peer: str
) -> tuple[Received, ...]:
    """Write the instances, committed and flushed; see ``Store.record_received``."""
    rows = connection.execute(
        statement("inbox", "record_received"),
        {
            "archive": archive,
            "peer": peer,
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


def forget_received(connection: Connection, archive: str, study_instance_uid: str) -> None:
    """The study's files are gone from the inbox; the rows stay as a record of what came."""
    connection.execute(
        statement("inbox", "forget_received"), {"archive": archive, "study": study_instance_uid}
    )
