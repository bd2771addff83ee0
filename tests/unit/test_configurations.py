"""The page of configurations: every block is read as the program reads it; every system to be had is there."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.environment.site_models import model_choice, site_tasks
from models.catalog import CATALOG_FILE, CatalogEntry, State, list_models, show
from models.drafter import open_model
from models.drafting.draft_plan import NO_IMPRESSION, draft_plan
from models.drafting.tasks import check_family
from models.families.registry import check_use_limits, find_opener
from models.family import Request, Task
from pipeline.report import Language
from pipeline.settings import Settings
from tests.engines import ENGINES
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.taught_segmenter import write_segmenter
from tests.tiny_chat import write_chat_model
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model
from tests.tiny_uni_med import write_uni_med

PAGE = CATALOG_FILE.parents[1] / "docs" / "configuration.md"
FOUND = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
BLOCKS = [tomllib.loads(text) for text in FOUND]


class Unopened:
    """What a family of weights says of itself before it is opened: its catalogue entry."""

    def __init__(self, entry: CatalogEntry) -> None:
        self.model_id, self.traits = entry.id, entry.traits
        self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)


def named(block: dict[str, Any]) -> list[str]:
    return [table["id"] for table in (block["model"], *block.get("models", {}).values())]


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of small random weights for each adapter, as published."""
    root = tmp_path_factory.mktemp("weights")
    return {
        "causal-lm": write_text_model(root / "text"),
        "uni-med": write_uni_med(root / "uni-med"),
        "internvl": write_chat_model(root / "medrega", "medrega"),
        "internvl3": write_chat_model(root / "internvl", "internvl"),
        "llava": write_chat_model(root / "llava-med", "llava-med"),
        "llava-onevision": write_chat_model(root / "radvlm", "radvlm"),
        "gemma3": write_chat_model(root / "medgemma", "medgemma"),
        "qwen2-vl": write_qwen(root / "umit", "qwen2-vl"),
        "qwen2.5-vl": write_qwen(root / "qwen", "qwen2.5-vl"),
        "qwen3-vl": write_qwen(root / "qwen3", "qwen3-vl"),
        "nnunet": write_segmenter(root / "nnunet"),
    }


def test_every_system_that_can_be_had_has_a_block() -> None:
    headings = set(re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.M))
    wanted = {entry.id for entry in list_models() if entry.state is not State.NOT_FOR_ARCHIVES}
    assert headings == wanted
    assert {name for block in BLOCKS for name in named(block)} == wanted


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "+".join(named(block)))
def test_a_block_is_a_choice_that_the_program_takes(
    block: dict[str, Any], server: FaultyEndpoint, folders: dict[str, Path], tmp_path: Path
) -> None:
    settings = Settings(**block)
    language = Language(settings.policy.language)
    tasks = site_tasks(settings, language)
    plan = draft_plan(show(settings.model.id), language, settings.model.report, settings.model.impression)
    asked: dict[str, list[Request]] = {"": [Request(plan.task, language, variant=plan.variant)]}
    for task in tasks:
        asked.setdefault(task.model, []).append(task.request)
    if plan.summarizer is not None:
        asked.setdefault(plan.summarizer, []).append(Request(Task.SUMMARIZE, language))
    if settings.model.impression not in ("", NO_IMPRESSION):
        assert settings.model.impression in settings.models
    for route in settings.routes:
        drafted = draft_plan(show(settings.models[route.model].id), language)
        asked.setdefault(route.model, []).append(Request(drafted.task, language, variant=drafted.variant))
    assert set(asked) == {"", *settings.models}, "every model of the block has something to do"
    for name, table in {"": settings.model, **settings.models}.items():
        entry, choice = show(table.id), model_choice(table)
        check_use_limits(entry, choice)
        with ExitStack() as stack:
            family: Any = Unopened(entry)
            if table.endpoint is not None:
                family = stack.enter_context(open_model(model_choice(reached(table, server)), tmp_path))
            elif entry.state is State.RUNNABLE or entry.id in ("ming-moe", "biomedclip"):
                assert callable(find_opener(entry, entry.adapter))
            else:
                assert choice.weights is not None
                # the tower in torch, since the export of each is tested with its family
                small = replace(choice, weights=folders[entry.adapter], require_runner="torch")
                if entry.adapter in ("causal-lm", "uni-med"):
                    small = replace(small, require_runner="")
                family = stack.enter_context(open_model(small, ENGINES))
            for request in asked[name]:
                check_family(family, request)
        if not name and settings.policy.priors != "off":
            assert family.traits.reads_priors


def reached(table: Any, server: FaultyEndpoint) -> Any:
    endpoint = table.endpoint.model_copy(update={"url": server.url, "model": "served"})
    return table.model_copy(update={"endpoint": endpoint})


def test_what_the_page_says_of_impressions_is_the_catalogues() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:Findings|a caption)[^|]*\| ([^|]+) \| ([^|]+) \|$", page, re.M)
    assert len(rows) == 4
    for entry in list_models():
        concludes = entry.concludes()
        if concludes is None:
            continue
        (said,) = [
            last for ids, last in rows if any(entry.id.startswith(one) for one in re.findall(r"[\w.-]+", ids))
        ]
        expected = {"report": "own", "own-summary": "own summary", "other-model-or-unwritten": "or none"}
        assert expected[concludes] in said, entry.id
