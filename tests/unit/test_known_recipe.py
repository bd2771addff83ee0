"""The recipe that is known without opening the model is the one that the opened model says."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.environment.known_recipe import FILE
from flows.environment.workplace import Workplace
from models.catalog import show
from pipeline import settings as configuration
from pipeline.errors import StopRun
from pipeline.setting_lists import TaskSettings
from pipeline.settings import Settings
from tests.sites import write_site


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Settings]:
    """The settings of a site with weights of its own, which a test may touch."""
    shipped = show("firstread-mini").weights_folder
    assert shipped is not None
    weights = tmp_path / "weights"
    shutil.copytree(shipped, weights)

    def settings(**tables: Any) -> Settings:
        tables = {"model": {"weights": str(weights)}, **tables}
        return configuration.load(write_site(tmp_path / "site", "", {}, **tables))

    return settings


def opened(settings: Settings, **options: str) -> str:
    """The recipe that the opened model says; remembered by this."""
    with_stack = Workplace(settings, **options)
    try:
        return with_stack.drafter.recipe
    finally:
        with_stack._stack.close()


def known(settings: Settings, **options: str) -> str:
    """The recipe as it is known from outside, "" where the model would have to be opened."""
    return Workplace(settings, **options)._recipe


def test_it_is_the_recipe_of_the_opened_model(site: Callable[..., Settings]) -> None:
    settings = site()
    assert known(settings) == ""
    recipe = opened(settings)
    assert known(settings) == recipe
    assert known(settings, language="zh") == ""
    chinese = opened(settings, language="zh")
    assert chinese != recipe
    assert (known(settings), known(settings, language="zh")) == (recipe, chinese)


@pytest.mark.parametrize(
    "changed",
    [
        {"tasks": [{"task": "vqa", "questions": ["Is there a pneumothorax?"]}]},
        {"policy": {"language": "zh"}},
        {"model": {"threads": 1, "impression": "none"}},
    ],
    ids=["tasks", "language", "model"],
)
def test_another_setting_has_to_be_asked(site: Callable[..., Settings], changed: dict[str, Any]) -> None:
    opened(site())
    tables = dict(changed)
    if "tasks" in tables:
        settings = site().model_copy(update={"tasks": (TaskSettings(**tables["tasks"][0]),)})
    else:
        if "model" in tables:
            tables["model"] = {"weights": site().model.weights.as_posix(), **tables["model"]}  # type: ignore[union-attr]
        settings = site(**tables)
    assert known(settings) == ""


def test_a_file_of_the_weights_that_changed_in_place_has_to_be_asked(site: Callable[..., Settings]) -> None:
    settings = site()
    opened(settings)
    folder = settings.model.weights
    assert folder is not None
    file = next(folder.glob("*.safetensors"))
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x00")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known(settings) == "", "same size, same time of change, other bytes"
    with pytest.raises(StopRun):
        opened(settings)


def test_a_source_that_changed_has_to_be_asked(
    site: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.environment import known_recipe

    settings = site()
    root = tmp_path / "program"
    (root / "models").mkdir(parents=True)
    source = root / "models" / "words.py"
    source.write_text("A = 1\n")
    monkeypatch.setattr(known_recipe, "_PACKAGES", root)
    opened(settings)
    assert known(settings)
    source.write_text("A = 2\n")
    assert known(settings) == ""


def test_a_model_that_says_another_recipe_stops_the_run_once(site: Callable[..., Settings]) -> None:
    settings = site()
    recipe = opened(settings)
    path = settings.data_dir / FILE
    path.write_text(path.read_text().replace(recipe, "0" * 64))
    workplace = Workplace(settings)
    assert workplace.recipe == "0" * 64
    with pytest.raises(StopRun) as stopped:
        _ = workplace.drafter
    workplace._stack.close()
    assert stopped.value.code == "recipe"
    assert opened(settings) == recipe


def test_a_broken_file_is_no_trouble(site: Callable[..., Settings]) -> None:
    settings = site()
    (settings.data_dir / FILE).write_text('["not", "ours"')
    recipe = opened(settings)
    assert known(settings) == recipe


def test_a_server_s_model_is_never_remembered(site: Callable[..., Settings]) -> None:
    settings = site(model={"id": "libra", "accept_use_limits": True})
    endpoint = configuration.EndpointSettings(url="http://127.0.0.1:1", model="libra")
    asked = settings.model_copy(update={"model": settings.model.model_copy(update={"endpoint": endpoint})})
    assert Workplace(asked)._known.key == ""
