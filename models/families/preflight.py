"""What a family of the catalogue can be asked, told without opening it.

So that a list of tasks that the models cannot do is refused before a study is retrieved.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from models.catalog import CatalogEntry, show
from models.drafting.tasks import SiteTask, check_family, question_of
from models.families.mini import prompts
from models.family import Family, Request, Task
from models.model_choice import ModelChoice
from pipeline.errors import ConfigurationError
from pipeline.report import Language

FIXED_WORDS = "firstread-mini"
"""The adapter whose questions, labels and targets are those that it was trained on; others take free words."""


class _Unopened:
    """A catalogue entry with the attributes by which a loaded family is asked what it does."""

    def __init__(self, entry: CatalogEntry) -> None:
        self.model_id = entry.id
        self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
        self.traits = entry.traits


def check_tasks(tasks: Sequence[SiteTask], drafting: ModelChoice, further: Mapping[str, ModelChoice]) -> None:
    """Raises ConfigurationError naming the first task that its model cannot do, and what the model can."""
    for one in tasks:
        if one.model and one.model not in further:
            message = f"no [models.{one.model}] in the configuration: add it, or leave model out of the task"
            raise ConfigurationError("unknown-model", message)
        choice = further[one.model] if one.model else drafting
        try:
            check_request(show(choice.id), one.request)
        except ConfigurationError as error:
            name = " ".join(part for part in (one.request.task, question_of(one.request)) if part)
            raise ConfigurationError(error.code, f"[[tasks]] {name}: {error.message}") from None


def check_request(entry: CatalogEntry, request: Request) -> None:
    """Raises ConfigurationError, saying what the family does, unless it can be asked this."""
    check_family(cast("Family", _Unopened(entry)), request)  # it looks at these attributes alone
    if entry.adapter == FIXED_WORDS:
        prompts.check_words(request)


def known_words(entry: CatalogEntry) -> dict[str, dict[str, tuple[str, ...]]]:
    """By language, the questions, labels and targets that the family takes; empty where it takes any."""
    if entry.adapter != FIXED_WORDS:
        return {}
    return {
        language.value: {
            "questions (vqa)": prompts.known_questions(language),
            "labels (classify)": prompts.known_labels(language),
            "targets (detect)": prompts.known_targets(language, Task.DETECT),
            "targets (landmark)": prompts.known_targets(language, Task.LANDMARK),
        }
        for language in Language
        if language in entry.languages
    }
