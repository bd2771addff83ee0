"""A site's [[tasks]] and models as the drafter takes them."""

from pathlib import Path

from models.drafting.tasks import SiteTask, TaskWording, requests_of, task_named
from models.family import Task
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.errors import ConfigurationError
from pipeline.report import Language
from pipeline.settings import EndpointSettings, ModelSettings, Settings, TaskSettings, model_named


def site_tasks(settings: Settings, language: Language) -> tuple[SiteTask, ...]:
    """Every request of the site's list, in its order; ``language`` is the drafts'.

    The report in that language is always written and adds nothing. Raises ConfigurationError naming the table at
    fault.
    """
    listed: list[SiteTask] = []
    for number, table in enumerate(settings.tasks, 1):
        try:
            listed += _requests(settings, table, language)
        except ConfigurationError as error:
            raise ConfigurationError(error.code, f"[[tasks]] number {number}: {error.message}") from None
    if len(set(listed)) < len(listed):
        raise ConfigurationError("task-twice", "[[tasks]] asks the same thing twice; keep one of them")
    return tuple(listed)


def check_site_tasks(settings: Settings, model: ModelChoice, language: Language) -> None:
    """Raises ConfigurationError where a model of the site's list cannot do what is asked of it; opens none."""
    if tasks := site_tasks(settings, language):
        from models.families.preflight import check_tasks  # only a site with tasks pays for its words

        further = {name: model_choice(one) for name, one in settings.models.items()}
        check_tasks(tasks, model, further)


def model_choice(settings: ModelSettings) -> ModelChoice:
    """A [model] or [models.NAME] table as the loader takes it."""
    return ModelChoice(
        id=settings.id,
        weights=settings.weights,
        require_runner=settings.require_runner,
        threads=settings.threads,
        revision=settings.revision,
        accept_use_limits=settings.accept_use_limits,
        precision=settings.precision,
        sha256=settings.sha256,
        endpoint=_endpoint_options(settings.endpoint) if settings.endpoint else None,
        report=settings.report,
        impression=settings.impression,
    )


def chosen_model(settings: Settings, name: str) -> ModelChoice:
    """The model that a command names: a [models.NAME] table, the one of [model] (also for ""), or a catalogue id."""
    if name in settings.models:
        return model_choice(settings.models[name])
    if name in ("", settings.model.id):
        return model_choice(settings.model)
    return ModelChoice(name, require_runner=settings.model.require_runner, threads=settings.model.threads)


def read_schema(path: Path | None) -> str:
    """The text of a JSON Schema file, "" for none. Raises ConfigurationError where it cannot be read."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("task-schema", f"{path}: cannot be read ({error})") from None


def _requests(settings: Settings, table: TaskSettings, drafts: Language) -> list[SiteTask]:
    task = task_named(table.task)
    language = Language(table.language or drafts)
    if task is Task.IDENTIFY:
        raise ConfigurationError("task-words", "identify needs a region of one study: use `firstread ask`")
    if table.model:
        model_named(settings, table.model)
    words = TaskWording(
        table.questions,
        table.labels,
        table.options,
        table.targets,
        read_schema(table.schema_file),
        table.variant,
    )
    requests = requests_of(task, language, words)
    if task is Task.REPORT and language is drafts and not table.model and not table.variant:
        return []
    modalities = frozenset(one.upper() for one in table.modalities)
    return [SiteTask(request, modalities, table.model) for request in requests]


def _endpoint_options(settings: EndpointSettings) -> EndpointOptions:
    given = {name: value for name, value in settings if name != "plain_http"}  # that was asked of the address
    return EndpointOptions(**{**given, "api_key": settings.api_key.get_secret_value()})
