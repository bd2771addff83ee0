"""Storing drafted studies: ours against one ORM transaction per study; same rows, tables and triggers, one run.

    python -m tests.benchmarks.bench_store [--studies 300] [--rounds 5] [--batch 16]

The other side is the obvious SQLAlchemy program: declarative tables, a Session per study as unit of work (look the
ledger row up, check the claim, merge each resource, add the report, preview and audit rows, commit). Each
round stores the same number of new studies on both sides, in turn, on the embedded server with its defaults
(fsync on). It prints studies per second and the ratio of the medians, which has to be at least 2.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import ARRAY, JSON, ForeignKey, LargeBinary, Text, create_engine, event
from sqlalchemy.dialects.postgresql import ENUM, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pipeline.ledger import Claim, LedgerState, ReportOutcome
from pipeline.store.codec import as_json
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store
from tests.store_samples import ARCHIVE, RECIPE, claim, found, outcome

BAR = 2.0
OF_A_STUDY = ("DiagnosticReport", "Observation", "ImagingStudy", "Provenance")


class Base(DeclarativeBase):
    """Tables of schema firstread, as an ORM program would map them."""

    type_annotation_map = {dict[str, Any]: JSONB, list[Any]: JSONB, datetime: TIMESTAMP(timezone=True)}  # noqa: RUF012


class Ledger(Base):
    __tablename__ = "ledger"
    ledger_id: Mapped[int] = mapped_column(primary_key=True)
    archive: Mapped[str]
    study_instance_uid: Mapped[str]
    recipe: Mapped[str]
    state: Mapped[str] = mapped_column(ENUM(*LedgerState, name="ledger_state", create_type=False))
    token: Mapped[int]
    lease_owner: Mapped[str | None]
    lease_process: Mapped[int | None]
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int]
    code: Mapped[str]
    reason: Mapped[str]
    next_attempt_at: Mapped[datetime | None]
    first_short_at: Mapped[datetime | None]
    accession_number: Mapped[str]
    announced: Mapped[int | None]
    held: Mapped[int | None]
    missing: Mapped[list[str]] = mapped_column(ARRAY(Text))
    damaged: Mapped[list[Any]]
    left_out: Mapped[list[Any]]
    manifest_digest: Mapped[str]
    reported_manifest: Mapped[str]
    announced_digest: Mapped[str | None]
    report_id: Mapped[str | None]
    report_version: Mapped[int | None]


class ResourceRow(Base):
    __tablename__ = "resource"
    resource_type: Mapped[str] = mapped_column(primary_key=True)
    resource_id: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[int]
    last_updated: Mapped[datetime]
    body: Mapped[dict[str, Any]]
    study_instance_uid: Mapped[str | None]
    written_by: Mapped[str]


class ReportVersionRow(Base):
    __tablename__ = "report_version"
    report_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    ledger_id: Mapped[int] = mapped_column(ForeignKey("ledger.ledger_id"))
    archive: Mapped[str]
    study_instance_uid: Mapped[str]
    accession_number: Mapped[str]
    recipe: Mapped[str]
    manifest_digest: Mapped[str]
    language: Mapped[str]
    model_id: Mapped[str]
    findings: Mapped[str]
    impression: Mapped[str]
    draft: Mapped[dict[str, Any]]
    checks: Mapped[list[Any]]
    left_out: Mapped[list[Any]]
    completeness: Mapped[dict[str, Any]]


class PreviewRow(Base):
    __tablename__ = "preview"
    report_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    series_instance_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    frame: Mapped[int]
    jpeg: Mapped[bytes] = mapped_column(LargeBinary)
    original_rows: Mapped[int]
    original_columns: Mapped[int]


class AuditRow(Base):
    __tablename__ = "audit_event"
    seq: Mapped[int] = mapped_column(primary_key=True)
    chain: Mapped[str]
    place: Mapped[int]
    recorded: Mapped[datetime]
    ledger_id: Mapped[int | None]
    event: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    row_hash: Mapped[bytes] = mapped_column(LargeBinary)


def save_by_orm(session: Session, drafted: ReportOutcome) -> None:
    """One study, one unit of work."""
    now = datetime.now(UTC)
    held, complete = drafted.claim, drafted.completeness
    study = session.get_one(Ledger, held.ledger_id, with_for_update=True)
    if study.token != held.token or study.lease_owner is None:
        raise RuntimeError("lost")
    for sent in drafted.resources:
        uid = held.study_instance_uid if sent.resource_type in OF_A_STUDY else None
        known = session.get(ResourceRow, (sent.resource_type, sent.resource_id))
        if known is None:
            session.add(
                ResourceRow(
                    resource_type=sent.resource_type,
                    resource_id=sent.resource_id,
                    version_id=1,
                    last_updated=now,
                    body=sent.body,
                    study_instance_uid=uid,
                    written_by="machine",
                )
            )
        elif known.body != sent.body:
            known.body = dict(sent.body)
    draft = orjson.loads(as_json(drafted.draft))
    left_out = orjson.loads(as_json(drafted.left_out))
    completeness = orjson.loads(as_json(complete))
    session.add(
        ReportVersionRow(
            report_id=drafted.diagnostic_report_id,
            version=1,
            ledger_id=held.ledger_id,
            archive=held.archive,
            study_instance_uid=held.study_instance_uid,
            accession_number=drafted.accession_number,
            recipe=held.recipe,
            manifest_digest=complete.manifest_digest,
            language=drafted.draft.language.value,
            model_id=drafted.draft.provenance.model_id,
            findings=drafted.draft.findings_text,
            impression=drafted.draft.impression_text,
            draft=draft,
            checks=orjson.loads(as_json(drafted.checks)),
            left_out=left_out,
            completeness=completeness,
        )
    )
    session.flush()
    for ordinal, preview in enumerate(drafted.previews):
        session.add(
            PreviewRow(
                report_id=drafted.diagnostic_report_id,
                version=1,
                ordinal=ordinal,
                series_instance_uid=preview.ref.series_instance_uid,
                sop_instance_uid=preview.ref.sop_instance_uid,
                frame=preview.frame,
                jpeg=preview.jpeg,
                original_rows=preview.original_rows,
                original_columns=preview.original_columns,
            )
        )
    study.state = LedgerState.REPORTED
    study.lease_owner = study.lease_process = study.lease_expires_at = None
    study.attempts, study.code, study.reason = 0, "", ""
    study.next_attempt_at = study.first_short_at = None
    study.accession_number = drafted.accession_number
    study.announced, study.held = complete.announced, complete.held
    study.missing, study.damaged, study.left_out = list(complete.missing), completeness["damaged"], left_out
    study.manifest_digest = study.reported_manifest = complete.manifest_digest
    study.announced_digest = complete.announced_digest
    study.report_id, study.report_version = drafted.diagnostic_report_id, 1
    for audited in drafted.audit:
        session.add(
            AuditRow(
                chain=f"archive:{held.archive}",
                place=0,
                recorded=now,
                ledger_id=held.ledger_id,
                event=audited,
                previous_hash=b"",
                row_hash=b"",
            )
        )
    session.commit()


def claimed(store: Store, first: int, count: int) -> list[Claim]:
    """New studies, discovered and claimed."""
    store.record_found(ARCHIVE, RECIPE, [found(first + number) for number in range(count)])
    return claim(store, count, lease_seconds=3600)


def rate(work: Callable[[], None], studies: int) -> tuple[float, float]:
    """Studies per second, and milliseconds of this process's CPU per study."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return studies / seconds, 1000 * cpu / studies


def main(arguments: Sequence[str]) -> int:
    """Measure both sides in turn and print the ratio; 1 when it is below the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16, help="studies given to save_many at once")
    parser.add_argument(
        "--fsync", choices=("on", "off"), default="on", help="off shows the work apart from the disk"
    )
    options = parser.parse_args(arguments)
    theirs: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres.ensure(Path(folder), {"fsync": options.fsync}) as server,
    ):
        upgrade(server.url)
        engine = create_engine(server.url, json_serializer=lambda value: orjson.dumps(value).decode())

        @event.listens_for(engine, "connect")
        def as_machine(connection: Any, _: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET ROLE firstread_machine")
                cursor.execute("SET search_path TO firstread")
            connection.commit()

        with Store(server.url, revision=head()) as store:
            for round_number in range(options.rounds + 1):
                first = round_number * 2 * options.studies
                for_them = [outcome(one) for one in claimed(store, first, options.studies)]
                for_us = [outcome(one) for one in claimed(store, first + options.studies, options.studies)]

                def by_orm(drafted: list[ReportOutcome] = for_them) -> None:
                    for one in drafted:
                        with Session(engine) as session:
                            save_by_orm(session, one)

                def by_store(drafted: list[ReportOutcome] = for_us) -> None:
                    for at in range(0, len(drafted), options.batch):
                        results = store.save_many(drafted[at : at + options.batch])
                        if any(isinstance(one, Exception) for one in results):
                            raise RuntimeError("a study was refused")

                them, us = rate(by_orm, options.studies), rate(by_store, options.studies)
                if round_number:  # the first round warms both
                    theirs.append(them)
                    ours.append(us)
            reports = len(store.studies(limit=10**6))
            verdict = store.audit_verify()
        engine.dispose()
    print(f"{reports} studies stored, audit {'whole' if verdict.ok else 'broken'} ({verdict.rows} rows)")
    medians = []
    for name, measured in (
        ("one ORM transaction per study", theirs),
        (f"Store.save_many, {options.batch} at once", ours),
    ):
        rates = [one for one, _ in measured]
        cpu = statistics.median(one for _, one in measured)
        medians.append(statistics.median(rates))
        print(
            f"{name:32} {medians[-1]:7.1f} studies/s [{min(rates):.1f}-{max(rates):.1f}], "
            f"{cpu:.2f} ms of client CPU a study"
        )
    ratio = medians[1] / medians[0]
    print(f"ratio {ratio:.2f} (bar {BAR})")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
