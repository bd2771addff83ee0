"""The catalogue of families."""

from pathlib import Path

import pytest

from models.catalog import CATALOG_FILE, _read, list_models, show
from models.families import Task
from models.families.opening import open_family
from models.prompts import read_prompts
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Language


def test_the_shipped_catalogue() -> None:
    mini = show("firstread-mini")
    assert mini in list_models()
    assert mini.state == "runnable"
    assert Task.REPORT in mini.tasks
    assert mini.languages == (Language.ENGLISH,)
    assert mini.weights_folder == CATALOG_FILE.parent / "weights" / "firstread-mini"


def test_every_runnable_family_has_a_prompt_for_all_it_says_it_does() -> None:
    for entry in list_models():
        if entry.state == "runnable":
            texts = read_prompts(entry.prompts).texts
            assert {(task, language) for task in entry.tasks for language in entry.languages} <= set(texts)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="firstread-mini"):
        show("nothing")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('state = "runnable"', 'state = "perhaps"', "runnable or planned"),
        ('tasks = ["report"', 'tasks = ["sing"', "sing"),
        ('name = "Firstread mini"', 'nickname = "x"', "nickname"),
        ("[[family]]", "[[family", "catalog.toml"),
    ],
)
def test_a_catalogue_that_is_not_understood_stops_the_run(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(CATALOG_FILE.read_text().replace(old, new, 1))
    with pytest.raises(StopRun, match=message):
        _read(path)


def test_a_family_named_twice_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(CATALOG_FILE.read_text() * 2)
    with pytest.raises(StopRun, match="twice"):
        _read(path)


def test_a_planned_family_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    text = CATALOG_FILE.read_text().replace(
        'state = "runnable"', 'state = "planned"\nreason = "no weights yet"'
    )
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="no weights yet"):
        open_family(_read(path)[0], None, tmp_path)


def test_a_broken_prompt_file_stops_the_run() -> None:
    with pytest.raises(StopRun, match=r"absent\.toml"):
        read_prompts("absent.toml")
