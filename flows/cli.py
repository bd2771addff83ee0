"""The command line. A command reads its options, calls one flow or function, prints what came out.

Exit codes: docs/design.md#exit-codes. Heavy modules are imported by the command that needs them, so that ``--help``
answers at once.
"""

from flows.environment import early_end  # first: the other imports take long enough to be stopped in

# isort: split
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows import tally
from flows.ask_command import ask
from flows.command_groups import audit_app, db_app, knowledge_app, models_app, rules_app
from flows.commands import ending
from flows.commands.options import (
    AnyArchive,
    ArchiveName,
    AskedBy,
    Config,
    Json,
    Language,
    Model,
    Since,
    Until,
    Verbose,
    days,
    opened_settings,
)
from flows.environment import outliving, stopping
from flows.ledger_commands import export, reconcile, retire, retry, status
from pipeline.folders import write_for_this_account

app = typer.Typer(
    name="firstread",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")
app.add_typer(rules_app, name="rules")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(audit_app, name="audit")
app.add_typer(db_app, name="db")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"firstread {version('firstread')}, Python {platform.python_version()}\n")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit"),
    ] = False,
) -> None:
    """Batch drafting of radiology reports over imaging archives. Drafts are machine-made and never final."""


@app.command()
def run(
    archive: ArchiveName = "main",
    since: Since = None,
    until: Until = None,
    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="UID", help="Study Instance UID; may be repeated")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Draft the studies of --study anew though nothing changed")
    ] = False,
    by: AskedBy = "",
    model: Model = "",
    language: Language = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Find studies in an archive and draft what is new or changed."""
    from flows.commands.run import SweepOptions, run_sweep

    settings = opened_settings(config, verbose)
    asked = SweepOptions(*days(since, until), str(config or ""), model, language, again, by)
    _finish(run_sweep(settings, archive, asked, tuple(study or ()), show=not json), json)


app.command()(ask)


@app.command()
def discover(
    archive: ArchiveName = "main",
    since: Since = None,
    until: Until = None,
    model: Model = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Find studies and write them to the ledger; draft nothing."""
    from flows.commands.run import SweepOptions, run_discover

    settings = opened_settings(config, verbose)
    asked = SweepOptions(*days(since, until), model=model)
    _finish(run_discover(settings, archive, asked, show=not json), json)


@app.command()
def pause(
    why: Annotated[str, typer.Option("--why", metavar="WORDS", help="Why; kept with who and when")],
    by: AskedBy = "",
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Stop drafting until someone resumes; every run asks first."""
    from flows.commands.pause import pause as stop

    stop(opened_settings(config, verbose), why, by)


@app.command()
def resume(by: AskedBy = "", config: Config = None, verbose: Verbose = False) -> None:
    """End a pause."""
    from flows.commands.pause import resume as go_on

    go_on(opened_settings(config, verbose), by)


@app.command()
def listen(config: Config = None, verbose: Verbose = False) -> None:
    """Receive what a PACS pushes (C-STORE) and start its drafting."""
    from flows.commands.listen import listen_forever

    listen_forever(opened_settings(config, verbose))


@app.command()
def work(
    archive: Annotated[
        str,
        typer.Option(
            "--archive",
            "-a",
            metavar="NAME",
            show_default="that of [listen]",
            help="Name of an [archives.NAME]",
        ),
    ] = "",
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Keep the model open and draft what is pushed, at once."""
    from flows.commands.work import work_forever

    work_forever(opened_settings(config, verbose), archive, str(config or ""))


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", show_default="that of [serve]", help="Address to listen on")
    ] = "",
    port: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=0, max=65535, show_default="that of [serve]", help="Port"),
    ] = None,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Serve the review page and FHIR R4 read and search."""
    from flows.commands.serve import serve_forever

    serve_forever(opened_settings(config, verbose), host=host or None, port=port)


for command in (retry, retire, reconcile, status, export):
    app.command()(command)


@app.command()
def doctor(
    archive: AnyArchive = "", config: Config = None, json: Json = False, verbose: Verbose = False
) -> None:
    """Try every part for real and say in plain words what to change."""
    from flows.commands.doctor import examine

    raise typer.Exit(examine(opened_settings(config, verbose), archive or None, config, as_json=json))


@app.command()
def simulate(
    studies: Annotated[int, typer.Option("--studies", min=1, help="How many studies to write")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write DICOM files to")],
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same bytes")] = 0,
    json: Json = False,
) -> None:
    """Write simulated chest films; all patients are fictitious."""
    from flows.commands.run import run_simulate

    run_simulate(studies, out, seed, as_json=json)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Run the sweep and exit")] = False,
    json: Json = False,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """The whole path on a sample archive, then the review page."""
    from flows.commands.demo import run_demo

    outcome = run_demo(opened_settings(config, verbose), once=once, show=not json)
    if json:
        sys.stdout.write(outcome.as_json() + "\n")


def main() -> None:
    """Entry point: see ``flows.commands.ending`` for how a command ends."""
    # Before pydantic is imported: it would look through every installed package for plugins, a tenth of what `status`
    # costs, and hand them what it reads, passwords too.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # noqa: TID251 - set, not read
    write_for_this_account()
    if sys.argv[1:2] and sys.argv[1] in outliving.COMMANDS:
        outliving.outlive()
    code = ending.run(app, sys.argv[1:])
    early_end.end_with(code)
    if stopping.stopped_by() or stopping.left_over():
        stopping.leave(code)
    if "prefect" in sys.modules:
        stopping.leave_in_time(code)
    sys.exit(code)


def _finish(outcome: tally.Tally, json: bool) -> NoReturn:
    if json:
        sys.stdout.write(outcome.as_json() + "\n")
    raise typer.Exit(outcome.exit_code)
