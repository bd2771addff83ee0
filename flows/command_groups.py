"""The commands in groups: ``firstread models``, ``audit``, ``db``, ``rules`` and ``knowledge``."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import ArchiveName, Config, Json, Model, Verbose, opened_settings

models_app = typer.Typer(
    rich_markup_mode=None,
    help="List, show, prove, compile and evaluate the model families.",
    no_args_is_help=True,
)
audit_app = typer.Typer(rich_markup_mode=None, help="Prove or export the audit chain.", no_args_is_help=True)
db_app = typer.Typer(
    rich_markup_mode=None, help="The database: its schema, its address, a prompt.", no_args_is_help=True
)

rules_app = typer.Typer(
    rich_markup_mode=None, help="A site's rules of what instances are: try them.", no_args_is_help=True
)

knowledge_app = typer.Typer(
    rich_markup_mode=None,
    help="The site's knowledge base.",
    no_args_is_help=True,
)


@knowledge_app.command("load")
def knowledge_load(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Read the [[knowledge]] folders; what changed is read anew, what is gone goes."""
    from flows.commands.knowledge import load_knowledge

    raise typer.Exit(load_knowledge(opened_settings(config, verbose), as_json=json))


@knowledge_app.command("list")
def knowledge_list(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Count the files and passages of each knowledge base."""
    from flows.commands.knowledge import list_knowledge

    list_knowledge(opened_settings(config, verbose), as_json=json)


@rules_app.command("test")
def rules_test(
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID")],
    archive: ArchiveName = "main",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what a study's instances are, which field or rule says so, and what becomes of the study."""
    from flows.commands.explain_rules import explain_rules

    raise typer.Exit(explain_rules(opened_settings(config, verbose), archive, study, as_json=json))


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


@models_app.command("compare")
def models_compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Folder of --out, or its results.json")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="The same of the other model")],
    json: Json = False,
) -> None:
    """Show two results of `models evaluate` side by side."""
    from flows.commands.compare import compare

    compare(first, second, as_json=json)


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
        opened_settings(config, verbose), model, CompileOptions(product, capability, precision), as_json=json
    )


@models_app.command("prove")
def models_prove(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME", show_default="that of [model]", help="Id of the family, or a [models.NAME]"
        ),
    ] = "",
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights")] = None,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Open a folder of weights and show what was checked; exits with 1 where something is refused."""
    from flows.commands.prove import prove_model

    raise typer.Exit(prove_model(opened_settings(config, verbose), model, weights, as_json=json))


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
    evaluate(opened_settings(config, verbose), asked, as_json=json)


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

    raise typer.Exit(
        verify_audit(opened_settings(config, verbose), heads, content=not chain_only, as_json=json)
    )


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

    export_audit(opened_settings(config, verbose), out)


@db_app.command("upgrade")
def db_upgrade(config: Config = None, json: Json = False, verbose: Verbose = False) -> None:
    """Bring the schema up to this version."""
    from flows.commands.database import upgrade_database

    upgrade_database(opened_settings(config, verbose), as_json=json)


@db_app.command("url")
def db_url(
    with_password: Annotated[
        bool, typer.Option("--with-password", help="Show the password too; it is left out otherwise")
    ] = False,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the address of the database, the embedded one too."""
    from flows.commands.database import show_url

    show_url(opened_settings(config, verbose), with_password=with_password, as_json=json)


@db_app.command("shell")
def db_shell(config: Config = None, verbose: Verbose = False) -> None:
    """Open a prompt that reads the views: psql, or a small one."""
    from flows.commands.database import open_shell

    raise typer.Exit(open_shell(opened_settings(config, verbose)))
