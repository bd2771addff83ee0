"""A site's [[tasks]] and models as the drafter takes them."""

from dataclasses import dataclass, replace
from pathlib import Path

from models.catalog import show
from models.drafting.name_sets import name_set
from models.drafting.tasks import SiteTask, TaskWording, requests_of, task_named
from models.family import Request, Task
from models.film_sizes import longest_side
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.accepts import MODALITIES, Accepts, Kind, StudyReader, modalities_of_kind
from pipeline.errors import ConfigurationError
from pipeline.report import Language
from pipeline.setting_lists import TaskSettings
from pipeline.setting_names import nearest
from pipeline.settings import EndpointSettings, ModelSettings, Settings, model_named


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


@dataclass(frozen=True, slots=True)
class SiteRoute:
    """Studies of some modalities, films of the chest aside, and the model that drafts them."""

    modalities: frozenset[str]
    name: str
    model: ModelChoice
    accepts: tuple[Accepts, ...]
    """What the model reads of these modalities."""


def site_routes(settings: Settings) -> tuple[SiteRoute, ...]:
    """The site's [[routes]], in order; opens no model.

    Raises ConfigurationError for a model that is not configured or reads nothing of the modalities, for a modality that
    DICOM does not know, and for a modality or a model that two routes name.
    """
    routes: list[SiteRoute] = []
    for number, table in enumerate(settings.routes, 1):
        wanted = frozenset(table.modalities)
        if unknown := sorted(wanted - MODALITIES.keys()):
            near = nearest(unknown[0], MODALITIES)
            raise ConfigurationError(
                "route-unread",
                f"[[routes]] number {number}: {unknown[0]} is no modality of DICOM's images"
                + (f": did you mean {near}?" if near else ""),
            )
        if twice := wanted & frozenset().union(*(one.modalities for one in routes)):
            raise ConfigurationError(
                "route-twice", f"[[routes]] number {number}: {min(twice)} has a route already"
            )
        if table.model in {one.name for one in routes}:
            raise ConfigurationError(
                "route-twice",
                f"[[routes]] number {number}: {table.model} has a route already; name all it reads there",
            )
        choice = model_choice(model_named(settings, table.model))
        accepts = _of_modalities(show(choice.id).accepts, wanted)
        if not accepts:
            told = "; ".join(map(str, show(choice.id).accepts)) or "films of the chest alone"
            message = f"[[routes]] number {number}: {choice.id} reads nothing of {', '.join(sorted(wanted))}: {told}"
            raise ConfigurationError("route-unread", message)
        routes.append(SiteRoute(wanted, table.model, choice, accepts))
    return tuple(routes)


def _of_modalities(accepts: tuple[Accepts, ...], wanted: frozenset[str]) -> tuple[Accepts, ...]:
    """The declarations that have to do with the modalities, narrowed to them."""
    found = []
    for one in accepts:
        known = frozenset(one.modalities) or modalities_of_kind(one.kind)
        if both := known & wanted:
            found.append(replace(one, modalities=tuple(sorted(both))))
    return tuple(found)


def route_tasks(route: SiteRoute, language: Language) -> tuple[SiteTask, ...]:
    """What the model of a route is asked beside its draft: a segmenter keeps its mask."""
    if not show(route.model.id).does(Task.SEGMENT, language):
        return ()
    return (SiteTask(Request(Task.SEGMENT, language)),)


def with_whole(settings: Settings, accepts: tuple[Accepts, ...]) -> tuple[Accepts, ...]:
    """``accepts`` with whole volumes for the modalities that a task of the site segments."""
    wanted: set[str] = set()
    for table in settings.tasks:
        if table.task == Task.SEGMENT and table.model in settings.models:
            reads = show(settings.models[table.model].id).accepts
            of_model = {name for one in reads if one.whole for name in one.modalities}
            wanted |= of_model & set(table.modalities) if table.modalities else of_model
    return tuple(
        replace(one, whole=True)
        if one.kind is Kind.SLICES and wanted & set(one.modalities or wanted)
        else one
        for one in accepts
    )


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


def reader_of(choice: ModelChoice) -> StudyReader:
    """What a chosen model reads; a server is sent films of at most ``endpoint.max_side``."""
    return replace(show(choice.id).reader, longest_side=longest_side(choice))


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
    labels, targets = _named(table, task)
    words = TaskWording(
        table.questions,
        labels,
        table.options,
        targets,
        read_schema(table.schema_file),
        table.variant,
    )
    requests = requests_of(task, language, words)
    if task is Task.REPORT and language is drafts and not table.model and not table.variant:
        return []
    modalities = frozenset(one.upper() for one in table.modalities)
    return [SiteTask(request, modalities, table.model) for request in requests]


def _named(table: TaskSettings, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels and the targets: a table's own, or those of its ``name_set``."""
    if not table.name_set:
        return table.labels, table.targets
    if table.labels or table.targets:
        raise ConfigurationError("name-set", "name_set and names of your own: leave one of them out")
    names = name_set(table.name_set, task).names
    return (names, ()) if task is Task.CLASSIFY else ((), names)


def _endpoint_options(settings: EndpointSettings) -> EndpointOptions:
    given = {name: value for name, value in settings if name != "plain_http"}  # that was asked of the address
    return EndpointOptions(**{**given, "api_key": settings.api_key.get_secret_value()})
