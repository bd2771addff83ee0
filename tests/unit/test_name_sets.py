"""Ready names for tasks: whole, usable by the task they are for, and refused by name for any other."""

from pathlib import Path

import pytest

from flows.environment.site_models import site_tasks
from models.drafting.name_sets import name_set, name_sets
from models.drafting.tasks import TaskWording, requests_of
from models.family import Task
from pipeline.errors import ConfigurationError
from pipeline.report import Language
from pipeline.settings import load

OF_MEDMNIST = {
    "pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5,
    "breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8, "organmnist": 11,
}  # fmt: skip
"""Classes as medmnist 3.0.2 counts them; the three sets of organs have the same."""


def test_the_sets_of_medmnist_have_their_classes() -> None:
    assert {name: len(name_sets()[name].names) for name in OF_MEDMNIST} == OF_MEDMNIST
    assert [name for name, one in name_sets().items() if one.several] == ["chestmnist"]


def test_nineteen_landmarks() -> None:
    assert len(set(name_set("cephalometric", Task.LANDMARK).names)) == 19


@pytest.mark.parametrize("name", sorted(name_sets()))
def test_every_set_can_be_asked(name: str) -> None:
    one = name_sets()[name]
    words = TaskWording(labels=one.names) if one.task is Task.CLASSIFY else TaskWording(targets=one.names)
    requests = requests_of(one.task, Language.ENGLISH, words)
    assert len(requests) == (1 if one.task is Task.CLASSIFY else len(one.names))
    assert len(set(one.names)) == len(one.names)
    assert all(part.strip() == part and part for part in one.names)
    assert one.source


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('task = "classify"\nname_set = "nosuch"', "there is no name_set"),
        ('task = "classify"\nname_set = "cephalometric"', "is for task landmark"),
        ('task = "classify"\nname_set = "octmnist"\nlabels = ["a", "b"]', "name_set and names of your own"),
        ('task = "vqa"\nname_set = "octmnist"\nquestions = ["?"]', "is for task classify"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(table: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(f"[[tasks]]\n{table}\n")
    with pytest.raises(ConfigurationError, match=message):
        site_tasks(load(path), Language.ENGLISH)


def test_a_table_asks_for_a_set(tmp_path: Path) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(
        '[[tasks]]\ntask = "classify"\nname_set = "bi-rads"\nmodalities = ["MG"]\n'
        '[[tasks]]\ntask = "landmark"\nname_set = "cephalometric"\n'
    )
    first, *landmarks = site_tasks(load(path), Language.ENGLISH)
    assert first.request.labels == name_sets()["bi-rads"].names
    assert first.modalities == frozenset({"MG"})
    assert [one.request.target for one in landmarks] == list(name_sets()["cephalometric"].names)
