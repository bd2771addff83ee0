"""The tasks of a site beside the report: what it may ask, and the answers of a batch of studies.

A task that one study cannot be asked, or whose answer cannot be told, is a remark on that study; its report and
its other answers stand.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from models.batches import answer_each
from models.drafting.structured import report_schema
from models.family import (
    TEXT_TASKS,
    Answer,
    Family,
    Features,
    PromptContext,
    Request,
    SeenImage,
    Task,
    traits_of,
)
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater
from pipeline.report import CheckOutcome, Language, Place, Region, TaskAnswer, Verdict

REMARK = "task"
"""The name of the check under which an unanswered task is shown."""

_NEEDED = {
    Task.VQA: "questions",
    Task.TEXT_QA: "questions",
    Task.CLASSIFY: "labels",
    Task.DETECT: "targets",
    Task.LANDMARK: "targets",
    Task.IDENTIFY: "region",
}
_TAKEN = {
    Task.VQA: ("options",),
    Task.TEXT_QA: ("options",),
    Task.CLASSIFY: ("questions",),
    Task.STRUCTURED: ("schema",),
    Task.GROUNDED_REPORT: ("labels",),
    Task.SEGMENT: ("targets",),
}
NO_FEATURES = Features((), {})
NO_CONTEXT = PromptContext()


@dataclass(frozen=True, slots=True)
class TaskWording:
    """What a site or a person put into words for a task; ``schema`` is JSON Schema text, ``variant`` a wording."""

    questions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    schema: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class SiteTask:
    """One request to make of every study, or of those with one of ``modalities``; ``model`` "" is the drafting one."""

    request: Request
    modalities: frozenset[str] = frozenset()
    model: str = ""


@dataclass(frozen=True, slots=True)
class DraftedStudy:
    """One drafted study as the tasks see it: features by model name ("" the drafting one), or why it has none."""

    features: Mapping[str, Features | FirstreadError]
    modalities: frozenset[str]
    findings_text: str
    context: PromptContext = NO_CONTEXT


@dataclass(frozen=True, slots=True)
class Answered:
    """What one study's tasks came to, in the order of the site's list."""

    answers: tuple[TaskAnswer, ...]
    remarks: tuple[CheckOutcome, ...]


def task_named(name: str) -> Task:
    """The task called ``name``. Raises ConfigurationError naming the ones there are."""
    try:
        return Task(name)
    except ValueError:
        known = ", ".join(Task)
        raise ConfigurationError("unknown-task", f"there is no task {name!r} (there are: {known})") from None


def requests_of(
    task: Task, language: Language, words: TaskWording, region: Region | None = None
) -> tuple[Request, ...]:
    """The requests of one task: one for each question or target, else one. A structured answer has a report's schema
    where none is given.

    Raises ConfigurationError for a word that is missing, that the task does not take, or a file that is no JSON Schema.
    """
    if words.variant and words.variant.partition("-")[0] != task:
        raise ConfigurationError("task-words", f"{words.variant} is no wording of task {task}")
    given = {name for name, value in asdict(words).items() if value} - {"variant"}
    given |= {"region"} if region else set()
    needed = _NEEDED.get(task, "")
    if needed and needed not in given:
        raise ConfigurationError("task-words", f"task {task} needs {needed}")
    if surplus := given - {needed, *_TAKEN.get(task, ())}:
        raise ConfigurationError("task-words", f"task {task} takes no {', '.join(sorted(surplus))}")
    if task is Task.CLASSIFY and len(words.labels) < 2:
        raise ConfigurationError("task-words", "task classify needs two labels or more to choose among")
    if words.schema:
        _check_schema(words.schema)
    elif task is Task.STRUCTURED:
        words = replace(words, schema=report_schema())
    plain = Request(
        task,
        language,
        region=region,
        labels=words.labels,
        options=words.options,
        schema=words.schema,
        variant=words.variant,
    )
    if words.targets:
        return tuple(replace(plain, target=target) for target in words.targets)
    if words.questions:
        return tuple(replace(plain, question=question) for question in words.questions)
    return (plain,)


def question_of(request: Request) -> str:
    """What was asked, in the asker's own words; "" where the task says it all."""
    if request.target:
        return request.target
    asked = request.question or request.variant
    if request.task in (Task.CLASSIFY, Task.GROUNDED_REPORT):
        asked = " ".join(part for part in (asked, "; ".join(request.labels)) if part)
    if request.options:
        asked = f"{asked} ({'; '.join(request.options)})"
    if request.region is not None:
        box = request.region
        asked = f"{box.x0:g},{box.y0:g},{box.x1:g},{box.y1:g}"
    return asked


def tasks_digest(tasks: Sequence[SiteTask]) -> str:
    """SHA-256 (hex) over all that a site's list asks, in its order."""
    plain = [
        {**asdict(one), "request": asdict(one.request), "modalities": sorted(one.modalities)} for one in tasks
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class TaskRunner:
    """Asks a batch of studies a site's tasks, each family once for up to ``batch`` requests at a time."""

    def __init__(
        self, family: Family, others: Mapping[str, Family], tasks: Sequence[SiteTask], batch: int
    ) -> None:
        """Raises ConfigurationError for a task or language that the family asked for it does not have."""
        self.tasks = tuple(tasks)
        self._families: Mapping[str, Family] = {"": family, **others}
        self._batch = batch
        for one in self.tasks:
            check_family(self._families[one.model], one.request)

    @property
    def image_models(self) -> tuple[str, ...]:
        """Further models that are asked about images: they have to encode the studies as well."""
        names = (one.model for one in self.tasks if one.model and one.request.task not in TEXT_TASKS)
        return tuple(dict.fromkeys(names))

    def run(self, studies: Sequence[DraftedStudy]) -> list[Answered]:
        """The answers of each study, in order. Raises StopRun only."""
        results: dict[tuple[int, int], TaskAnswer | FirstreadError] = {}
        waiting: dict[str, list[tuple[tuple[int, int], Features, Request]]] = {}
        for row, study in enumerate(studies):
            for column, task in enumerate(self.tasks):
                if task.modalities and not task.modalities & study.modalities:
                    continue
                features = NO_FEATURES
                if not task.model or task.request.task not in TEXT_TASKS:
                    held = study.features[task.model]
                    if isinstance(held, FirstreadError):
                        results[row, column] = held
                        continue
                    features = held
                allowed = traits_of(self._families[task.model]).context
                request = replace(task.request, context=study.context.only(allowed))
                if request.task in TEXT_TASKS:
                    request = replace(request, text=study.findings_text)
                waiting.setdefault(task.model, []).append(((row, column), features, request))
        for model, pairs in waiting.items():
            for start in range(0, len(pairs), self._batch):
                part = pairs[start : start + self._batch]
                answers = self._answer(
                    model, [features for _, features, _ in part], [request for *_, request in part]
                )
                results.update(zip((key for key, *_ in part), answers, strict=True))
        return [self._gather(row, results) for row in range(len(studies))]

    def _answer(
        self, model: str, features: Sequence[Features], requests: Sequence[Request]
    ) -> list[TaskAnswer | FirstreadError]:
        """Pairwise: one that cannot be answered takes no other down. Raises RetryLater for what may yet be."""
        family = self._families[model]
        told: list[TaskAnswer | FirstreadError] = []
        for one, request, answer in zip(
            features, requests, answer_each(family, features, requests), strict=True
        ):
            if isinstance(answer, RetryLater):
                raise answer
            if isinstance(answer, FirstreadError):
                told.append(answer)
            else:
                told.append(_told(family, one, request, answer, other=bool(model)))
        return told

    def _gather(self, row: int, results: Mapping[tuple[int, int], TaskAnswer | FirstreadError]) -> Answered:
        answers, remarks = [], []
        for column, task in enumerate(self.tasks):
            result = results.get((row, column))
            if isinstance(result, TaskAnswer):
                answers.append(result)
            elif result is not None:
                name = " ".join(part for part in (task.request.task, question_of(task.request)) if part)
                remarks.append(
                    CheckOutcome(REMARK, Verdict.WARNED, f"{name} was not answered: {result.message}")
                )
        return Answered(tuple(answers), tuple(remarks))


def check_family(family: Family, request: Request) -> None:
    """Raises ConfigurationError, saying what the family does, unless it can be asked this."""
    traits = traits_of(family)
    held = traits.language_tasks.get(request.language, family.tasks) & family.tasks
    if request.task not in family.tasks:
        does = ", ".join(task for task in Task if task in family.tasks)
        raise ConfigurationError(
            "unsupported-task", f"{family.model_id} does not do {request.task}; it does {does}"
        )
    if request.language not in family.languages:
        speaks = ", ".join(sorted(family.languages))
        message = f"{family.model_id} does not answer in {request.language}; it does in {speaks}"
        raise ConfigurationError("unsupported-language", message)
    if request.task not in held:
        does = ", ".join(task for task in Task if task in held)
        message = (
            f"{family.model_id} does not do {request.task} in {request.language}; in that it does {does}"
        )
        raise ConfigurationError("unsupported-language", message)
    wordings = traits.variants.get(request.language, frozenset())
    if request.variant and request.variant not in wordings:
        known = ", ".join(sorted(wordings)) or "none"
        message = (
            f"{family.model_id} has no wording {request.variant!r} in {request.language} (there are: {known})"
        )
        raise ConfigurationError("unknown-wording", message)


def task_answer(
    request: Request, answer: Answer, images: Sequence[SeenImage], model_id: str = ""
) -> TaskAnswer:
    """The answer as a value to keep.

    Raises FailStudy("answer-empty") where it says nothing, ("answer-range") where a place lies outside the images seen
    or a probability outside 0..1.
    """
    told = TaskAnswer(
        task=request.task.value,
        language=request.language,
        question=question_of(request),
        text=answer.text.strip(),
        labels=answer.labels,
        places=answer.places,
        structured=answer.structured,
        segments=answer.segments,
        mask=answer.mask,
        truncated=answer.truncated,
        schema_digest=hashlib.sha256(request.schema.encode()).hexdigest() if request.schema else "",
        model_id=model_id,
        reasoning=answer.reasoning,
    )
    if not (told.text or told.labels or told.places or told.structured):
        raise FailStudy("answer-empty", "the model gave an empty answer")
    chances = (
        *(label.probability for label in told.labels),
        *(place.confidence for place in told.places),
    )
    inside = all(_is_inside(place, images) for place in told.places)
    if not inside or not all(chance is None or 0.0 <= chance <= 1.0 for chance in chances):
        raise FailStudy("answer-range", "the model's answer lies outside the images or the probabilities")
    return told


def _told(
    family: Family, features: Features, request: Request, answer: Answer, *, other: bool
) -> TaskAnswer | FirstreadError:
    try:
        return task_answer(request, answer, features.images, family.model_id if other else "")
    except FailStudy as failure:
        return failure


def _is_inside(place: Place, images: Sequence[SeenImage]) -> bool:
    sizes = {(image.ref, image.frame): (image.columns, image.rows) for image in images}
    if (box := place.region) is not None:
        columns, rows = sizes.get((box.ref, box.frame), (0, 0))
        return 0 <= box.x0 < box.x1 <= columns and 0 <= box.y0 < box.y1 <= rows
    if (extent := place.extent) is not None:
        return bool(extent.planes) and all(
            _is_inside(Place(place.name, region), images) for region in extent.on_planes()
        )
    if (point := place.point) is not None:
        columns, rows = sizes.get((point.ref, point.frame), (-1, -1))
        return 0 <= point.x <= columns and 0 <= point.y <= rows and math.isfinite(point.x + point.y)
    return True


def _check_schema(text: str) -> None:
    import jsonschema  # only a site with structured answers pays for it

    try:
        jsonschema.Draft202012Validator.check_schema(json.loads(text))
    except (ValueError, jsonschema.SchemaError) as error:
        reason = error.message if isinstance(error, jsonschema.SchemaError) else "it is not JSON"
        raise ConfigurationError(
            "task-schema", f"the schema is no JSON Schema of 2020-12: {reason}"
        ) from None
