"""The command line. A command reads its options, calls one flow or function, prints what came out.

Exit codes: docs/design.md#exit-codes. Heavy modules are imported by the command that needs them, so that ``--help``
answers at once.
"""

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows import tally
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
)
from pipeline import logs
from pipeline import settings as configuration
from pipeline.settings import Settings

app = typer.Typer(
    name="firstread",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(
    rich_markup_mode=None, help="List, show, compile and evaluate the model families.", no_args_is_help=True
)
audit_app = typer.Typer(rich_markup_mode=None, help="Prove or export the audit chain.", no_args_is_help=True)
db_app = typer.Typer(
    rich_markup_mode=None, help="The database: its schema, its address, a prompt.", no_args_is_help=True
)
app.add_typer(models_app, name="models")
app.add_typer(audit_app, name="audit")
app.add_typer(db_app, name="db")


def _version(wanted: bool) -> None:
    if wanted:
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

    settings = _settings(config, verbose)
    asked = SweepOptions(*days(since, until), str(config or ""), model, language, again, by)
    _finish(run_sweep(settings, archive, asked, tuple(study or ()), show=not json), json)


@app.command()
def ask(
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID")],
    task: Annotated[
        str, typer.Option("--task", metavar="TASK", help="What to ask: vqa, classify, detect, identify, ...")
    ],
    archive: ArchiveName = "main",
    question: Annotated[
        str, typer.Option("--question", metavar="WORDS", help="The question of vqa and text_qa")
    ] = "",
    region: Annotated[
        str,
        typer.Option(
            "--region", metavar="X1,Y1,X2,Y2", help="x1,y1,x2,y2 in pixels of the original image (identify)"
        ),
    ] = "",
    target: Annotated[
        str, typer.Option("--target", metavar="WORDS", help="What to find (detect, landmark, segment)")
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="WORDS", help="A class to choose among (classify); repeat it"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="WORDS", help="An answer to choose among; repeat it"),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option("--schema", metavar="FILE", help="JSON Schema of the answer (structured)")
    ] = None,
    variant: Annotated[
        str,
        typer.Option(
            "--variant", metavar="WORDS", help="Another wording that the model has for the task (models show)"
        ),
    ] = "",
    prior: Annotated[
        str,
        typer.Option(
            "--prior",
            metavar="UID",
            help="Study Instance UID of an earlier study of the patient to compare with",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="NAME", show_default="that of [model]", help="A [models.NAME] or a family"
        ),
    ] = "",
    language: Language = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Ask a model one thing about one study; nothing is kept."""
    from flows.commands.ask import Inquiry
    from flows.commands.ask import ask as answer

    settings = _settings(config, verbose)
    inquiry = Inquiry(
        archive=archive,
        study=study,
        task=task,
        question=question,
        target=target,
        region=region,
        labels=tuple(label or ()),
        options=tuple(option or ()),
        schema=schema,
        variant=variant,
        prior=prior,
        model=model,
        language=language,
    )
    raise typer.Exit(answer(settings, inquiry, as_json=json))


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

    settings = _settings(config, verbose)
    asked = SweepOptions(*days(since, until), model=model)
    _finish(run_discover(settings, archive, asked, show=not json), json)


@app.command()
def listen(config: Config = None, verbose: Verbose = False) -> None:
    """Receive what a PACS pushes (C-STORE) and start its drafting."""
    from flows.commands.listen import listen_forever

    listen_forever(_settings(config, verbose))


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

    serve_forever(_settings(config, verbose), host=host or None, port=port)


@app.command()
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
    """Make studies at rest work again; the next run drafts them."""
    from flows.commands.take_up_again import RetryOptions, run_retry, states_named
    from pipeline.store.values import RestingFilter

    first, last = days(since, until)
    wanted = RestingFilter(
        states_named(state or ()),
        archive or None,
        study_instance_uids=tuple(study or ()),
        codes=tuple(code or ()),
        since=first,
        until=last,
    )
    options = RetryOptions(wanted, mended, dry_run, by)
    raise typer.Exit(run_retry(_settings(config, verbose), options, as_json=json))


@app.command()
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

    raise typer.Exit(run_retire(_settings(config, verbose), archive, study, reason, by, as_json=json))


@app.command()
def reconcile(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Bring inbox and ledger together, as every run does."""
    from flows.commands.take_up_again import run_reconcile

    run_reconcile(_settings(config, verbose), as_json=json)


@app.command()
def status(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Count the studies by state, and show what failed and why."""
    from flows.commands.status import show_status

    show_status(_settings(config, verbose), as_json=json)


@app.command()
def doctor(
    archive: AnyArchive = "", config: Config = None, json: Json = False, verbose: Verbose = False
) -> None:
    """Try every part for real and say in plain words what to change."""
    from flows.commands.doctor import examine

    raise typer.Exit(examine(_settings(config, verbose), archive or None, as_json=json))


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

    outcome = run_demo(_settings(config, verbose), once=once, show=not json)
    if json:
        sys.stdout.write(outcome.as_json() + "\n")


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """List the model families."""
    from flows.commands.show_models import show_models

    show_models(as_json=json)


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="ID", help="Id of the family, as `models list` shows it")],
    json: Json = False,
) -> None:
    """Show one family's entry and its model card."""
    from flows.commands.show_models import show_model

    show_model(model, as_json=json)


@models_app.command("compile")
def models_compile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME", show_default="that of [model]", help="Id of the family, or a [models.NAME]"
        ),
    ] = "",
    product: Annotated[
        str,
        typer.Option(metavar="NAME", show_default="what is installed", help="tensorrt or tensorrt_rtx"),
    ] = "",
    capability: Annotated[
        str, typer.Option(help="CUDA compute capability, such as 8.9, to build for another GPU")
    ] = "",
    precision: Annotated[str, typer.Option(help="fp32, or fp16 where its error is acceptable")] = "fp32",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Export the vision encoder and compile a TensorRT engine with its manifest."""
    from flows.commands.compile import compile_model
    from models.compiling import CompileOptions

    compile_model(
        _settings(config, verbose), model, CompileOptions(product, capability, precision), as_json=json
    )


@models_app.command("evaluate")
def models_evaluate(
    data: Annotated[Path, typer.Argument(help="Data set: a folder or file (JSONL, R2Gen or ReXrank JSON)")],
    model: Model = "",
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights")] = None,
    split: Annotated[str, typer.Option(help="Only the cases of this split")] = "",
    task: Annotated[str, typer.Option(help="Only the cases of this task")] = "",
    language: Annotated[str, typer.Option(help="Only the cases of this language: en or zh")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many cases; 0 for all")] = 0,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score this JSONL of {id, text, labels, scores, boxes, points}; no model is opened"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, predictions and plots")] = Path(
        "evaluation"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Cases encoded and answered together")] = 8,
    radeval: Annotated[
        str, typer.Option(help="Also radgraph, f1chexbert, green@COMMIT of RadEval, separated by commas")
    ] = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score a model on a data set: a table, results.json and plots, each score with its interval."""
    from flows.commands.evaluate import Evaluation, evaluate

    asked = Evaluation(
        data, out, model, weights, split, task, language, limit, predictions, seed, batch, radeval
    )
    evaluate(_settings(config, verbose), asked, as_json=json)


@audit_app.command("verify")
def audit_verify(
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads", help="What an earlier `audit verify --json` printed: the chains must go through it"
        ),
    ] = None,
    chain_only: Annotated[
        bool, typer.Option("--chain-only", help="Do not prove the report rows against their events")
    ] = False,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Prove the audit chain and what it says was written; names the first broken row and exits with 1."""
    from flows.commands.audit import verify_audit

    raise typer.Exit(verify_audit(_settings(config, verbose), heads, content=not chain_only, as_json=json))


@audit_app.command("export")
def audit_export(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default="standard output", help="File to write"),
    ] = None,
    config: Config = None,
    verbose: Verbose = False,
) -> None:
    """Write the audit events as NDJSON, one FHIR AuditEvent a line with its place in the chain."""
    from flows.commands.audit import export_audit

    export_audit(_settings(config, verbose), out)


@db_app.command("upgrade")
def db_upgrade(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Bring the schema up to this version."""
    from flows.commands.database import upgrade_database

    upgrade_database(_settings(config, verbose), as_json=json)


def main() -> None:
    """Entry point: see ``flows.commands.ending`` for how a command ends."""
    sys.exit(ending.run(app, sys.argv[1:]))


def _settings(config: Path | None, verbose: bool) -> Settings:
    logs.configure(verbose)
    return configuration.load(config)


def _finish(outcome: tally.Tally, json: bool) -> NoReturn:
    if json:
        sys.stdout.write(outcome.as_json() + "\n")
    raise typer.Exit(outcome.exit_code)
