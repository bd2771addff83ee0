"""The command ``ask``: what a person may ask of one study, or of the knowledge base, as options."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import ArchiveName, Config, Json, Language, Verbose, opened_settings

Task = Annotated[
    str,
    typer.Option(
        "--task", metavar="TASK", help="What to ask: vqa, classify, detect, identify, knowledge, ..."
    ),
]
Asked = Annotated[str, typer.Argument(metavar="[QUESTION]", help="The question, as --question")]
Study = Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID; knowledge has none")]
Question = Annotated[
    str, typer.Option("--question", metavar="WORDS", help="The question of vqa, text_qa and knowledge")
]
Box = Annotated[
    str,
    typer.Option(
        "--region", metavar="X1,Y1,X2,Y2", help="x1,y1,x2,y2 in pixels of the original image (identify)"
    ),
]
Target = Annotated[
    str, typer.Option("--target", metavar="WORDS", help="What to find (detect, landmark, segment)")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="WORDS", help="A class to choose among (classify); repeat it"),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="WORDS", help="An answer to choose among; repeat it"),
]
Schema = Annotated[
    Path | None, typer.Option("--schema", metavar="FILE", help="JSON Schema of the answer (structured)")
]
Variant = Annotated[
    str,
    typer.Option(
        "--variant", metavar="WORDS", help="Another wording that the model has for the task (models show)"
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        "--prior", metavar="UID", help="Study Instance UID of an earlier study of the patient to compare with"
    ),
]
AskedModel = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", show_default="that of [model]", help="A [models.NAME] or a family"
    ),
]


def ask(
    task: Task,
    asked: Asked = "",
    study: Study = "",
    archive: ArchiveName = "main",
    question: Question = "",
    region: Box = "",
    target: Target = "",
    label: Labels = None,
    option: Options = None,
    schema: Schema = None,
    variant: Variant = "",
    prior: Prior = "",
    model: AskedModel = "",
    language: Language = "",
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Ask one thing about one study, or of the knowledge base."""
    settings = opened_settings(config, verbose)
    question = question or asked
    if task == "knowledge":
        from flows.commands.knowledge import ask_knowledge

        raise typer.Exit(ask_knowledge(settings, question, model, language, as_json=json))
    if not study:
        raise typer.BadParameter("is needed: a task on a study needs its UID", param_hint="--study")
    from flows.commands.ask import Inquiry
    from flows.commands.ask import ask as answer

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
