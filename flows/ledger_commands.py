"""The commands on what the ledger holds: ``retry``, ``retire``, ``reconcile``, ``status`` and ``export``."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    AnyArchive,
    ArchiveName,
    AskedBy,
    Config,
    Json,
    Since,
    Until,
    Verbose,
    days,
    opened_settings,
)


def retry(
    archive: AnyArchive = "",
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="UID", help="Study Instance UID; may be repeated")
    ] = None,
    code: Annotated[
        list[str] | None,
        typer.Option("--code", metavar="CODE", help="Only with this code (status); may be repeated"),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="failed, skipped or reported; failed where not given"),
    ] = None,
    since: Since = None,
    until: Until = None,
    mended: Annotated[
        bool, typer.Option("--mended", help="Only what an upgrade, a changed setting or time may have mended")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be reopened, change nothing")
    ] = False,
    by: AskedBy = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make settled studies work again; the next run drafts them."""
    from flows.commands.take_up_again import RetryOptions, run_retry, states_named
    from pipeline.store.values import SettledFilter

    first, last = days(since, until)
    wanted = SettledFilter(
        states_named(state or ()),
        archive or None,
        study_instance_uids=tuple(study or ()),
        codes=tuple(code or ()),
        since=first,
        until=last,
    )
    options = RetryOptions(wanted, mended, dry_run, by)
    raise typer.Exit(run_retry(opened_settings(config, verbose), options, as_json=json))


def retire(
    study: Annotated[
        list[str], typer.Option("--study", metavar="UID", help="Study Instance UID; may be repeated")
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="WORDS", help="Why the draft is wrong; kept in the audit")
    ],
    archive: ArchiveName = "main",
    by: AskedBy = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Withdraw wrong drafts (entered-in-error); history keeps them."""
    from flows.commands.take_up_again import run_retire

    raise typer.Exit(run_retire(opened_settings(config, verbose), archive, study, reason, by, as_json=json))


def reconcile(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Bring inbox and ledger together, as every run does."""
    from flows.commands.take_up_again import run_reconcile

    run_reconcile(opened_settings(config, verbose), as_json=json)


def status(
    archive: AnyArchive = "",
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="List the studies in this state")
    ] = None,
    code: Annotated[
        list[str] | None, typer.Option("--code", metavar="CODE", help="List the studies with this code")
    ] = None,
    since: Since = None,
    until: Until = None,
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="UID", help="Show this Study Instance UID")
    ] = None,
    accession: Annotated[
        list[str] | None, typer.Option("--accession", metavar="NUMBER", help="Show this accession number")
    ] = None,
    identify: Annotated[
        bool, typer.Option("--identify", help="Name each listed study by accession number and UID")
    ] = False,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Count the studies by state, and show what failed and why."""
    from flows.commands.status import show_status, states_named
    from pipeline.store.values import StatusFilter

    first, last = days(since, until)
    wanted = StatusFilter(
        archive or None,
        states_named(state or ()),
        tuple(code or ()),
        tuple(study or ()),
        tuple(accession or ()),
        first,
        last,
    )
    show_status(opened_settings(config, verbose), wanted, identify=identify, as_json=json)


def export(
    archive: AnyArchive = "",
    since: Since = None,
    until: Until = None,
    form: Annotated[str, typer.Option("--format", metavar="jsonl|csv", help="How to write them")] = "jsonl",
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="With patient, UIDs and dates; left out otherwise")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default="standard output", help="File to write"),
    ] = None,
    segmentations: Annotated[
        Path | None, typer.Option("--segmentations", metavar="FOLDER", help="Their masks as DICOM files, too")
    ] = None,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write the reports in force as a table, without identifiers."""
    from flows.commands.export_drafts import ExportOrder, export_drafts

    order = ExportOrder(archive, *days(since, until), form, identifiers, out, segmentations)
    export_drafts(opened_settings(config, verbose), order, as_json=json)
