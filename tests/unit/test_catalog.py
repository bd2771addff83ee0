"""The catalogue of families."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from flows.commands.show_models import NO_ADAPTER, STATES, _row, show_model, show_models
from models.catalog import CATALOG_FILE, ENDPOINT_ADAPTER, State, _read, list_models, show
from models.families.registry import ADAPTERS, find_opener, open_family
from models.family import Task
from models.model_choice import ModelChoice
from models.prompts import read_prompts
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Language


def test_the_shipped_catalogue() -> None:
    mini = show("firstread-mini")
    assert mini in list_models()
    assert mini.state == "runnable"
    assert Task.REPORT in mini.tasks
    assert mini.languages == (Language.ENGLISH, Language.CHINESE)
    assert show("maira-2").reads_laterals, "its prompt has a place for the lateral film"
    assert not show("llava-rad").reads_laterals
    assert mini.weights_folder == CATALOG_FILE.parent / "weights" / "firstread-mini"


def test_every_runnable_family_has_a_prompt_for_all_it_says_it_does() -> None:
    for entry in list_models():
        if entry.state == "runnable":
            texts = read_prompts(entry.prompts).texts
            assert {(task, language) for task in entry.tasks for language in entry.languages} <= set(texts)


def test_each_card_has_a_row_that_says_what_is_declared() -> None:
    """docs/modalities.md: families in the first cell, in the last the kinds that are read beside films of the chest."""
    text = (Path(__file__).parents[2] / "docs/modalities.md").read_text(encoding="utf-8")
    table = text.partition("## What each family's card says")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    told = {family: row[-1].removesuffix(" |") for row in rows for family in re.findall(r"`([^`]+)`", row[0])}
    declared = {
        entry.id: ", ".join(dict.fromkeys(one.kind for one in entry.accepts)) or "none"
        for entry in list_models()
        if entry.images
    }
    assert told == declared


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="firstread-mini"):
        show("nothing")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('state = "runnable"', 'state = "perhaps"', "perhaps"),
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


SYSTEMS = [
    "firstread-mini",
    "uni-med",
    "umit",
    "medrega",
    "llava-med",
    "medgemma-4b-it",
    "medgemma-27b-it",
    "medgemma-27b-text-it",
    "medgemma-1.5-4b-it",
    "lingshu-7b",
    "lingshu-32b",
    "radvlm",
    "lingshu-i-8b",
    "fleming-vl-8b",
    "fleming-vl-38b",
    "chexone",
    "nv-reason-cxr",
    "unirg-cxr",
    "qwen3-vl",
    "qwen3-vl-media",
    "biomedclip",
    "wingpt2-7b",
    "wingpt2-14b",
    "wingpt2-llama-3-8b",
    "wingpt2-gemma-2-9b",
    "ming-7b",
    "ming-1.8b",
    "ming-moe",
    "smollm2-135m",
    "text-llm",
    "openai-endpoint",
    "maira-2",
    "chexagent-2",
    "llava-rad",
    "libra-7b",
    "libra-3b",
    "hulu-med-4b",
    "hulu-med-30a3",
    "hulu-med-235a22",
    "hulu-med-flash-27b",
    "vila-m3-3b",
    "vila-m3-8b",
    "vila-m3-13b",
    "cxrreportgen",
    "radsight-4b",
    "radsight-8b",
    "hulu-med-7b",
    "hulu-med-14b",
    "hulu-med-32b",
    "radfm",
    "endo-fm",
    "nnunet",
    "mis-fm",
    "stu-net",
    "chatdoctor",
    "med-palm-m",
    "medgemma-4b-pt",
    "huatuo",
    "pubmedbert",
    "helm",
    "holoct-4b",
]
CONCLUDES = {
    "report": [
        "firstread-mini", "medrega", "lingshu-7b", "lingshu-32b", "lingshu-i-8b", "openai-endpoint", "qwen3-vl",
        "qwen3-vl-media",
        "unirg-cxr",
    ],
    "own-summary": ["medgemma-4b-it", "medgemma-27b-it", "medgemma-1.5-4b-it", "chexone", "chexagent-2"],
    "other-model-or-unwritten": [
        "nnunet",
        "fleming-vl-8b", "fleming-vl-38b", "radvlm", "hulu-med-4b", "hulu-med-30a3", "hulu-med-235a22",
        "hulu-med-flash-27b", "vila-m3-3b", "vila-m3-8b", "vila-m3-13b", "cxrreportgen",
        "uni-med", "umit", "llava-med", "maira-2", "llava-rad", "libra-7b", "libra-3b", "hulu-med-7b", "hulu-med-14b",
        "hulu-med-32b", "radfm", "nv-reason-cxr",
    ],
}  # fmt: skip
"""Where the Impression of each system that drafts comes from."""


def test_every_system_is_there_with_all_a_site_has_to_know() -> None:
    entries = {entry.id: entry for entry in list_models()}
    assert set(SYSTEMS) == set(entries), "every system of the field that we know of, and no other"
    for entry in entries.values():
        assert entry.name
        assert entry.reason
        assert entry.licence
        assert entry.box_convention
        assert not entry.acknowledge or entry.use_limits
        assert entry.revision or entry.weights or entry.state is not State.RUNNABLE
        if entry.state is State.NOT_FOR_ARCHIVES:
            assert not entry.tasks
            continue
        assert entry.adapter
        assert entry.prompts or set(entry.tasks) == {"findings", "segment"}, "a segmenter reads no words"
        assert entry.preprocessing
        assert entry.network_class
        assert entry.tasks
        assert entry.languages
        assert set(entry.language_tasks) <= set(entry.languages)
        assert all(set(tasks) <= set(entry.tasks) for tasks in entry.language_tasks.values())
        assert (entry.images > 0) == bool(entry.modalities)
        if entry.state is State.SEPARATE_WORKER:
            assert entry.adapter == ENDPOINT_ADAPTER
            assert entry.environment


@pytest.mark.parametrize(("parameters", "bf16", "int4"), [(40, 74.5, 18.6), (8.3, 15.5, 3.87)])
def test_memory_is_computed_from_the_parameters(parameters: float, bf16: float, int4: float) -> None:
    entry = next(one for one in list_models() if one.parameters == parameters)
    assert entry.memory_gib["bf16"] == pytest.approx(bf16, rel=0.01)
    assert entry.memory_gib["int4"] == pytest.approx(int4, rel=0.01)
    assert show("umit").memory_gib == {}


def test_a_language_with_fewer_tasks_says_so() -> None:
    umit = show("umit")
    assert umit.does(Task.VQA, Language.CHINESE)
    assert not umit.does(Task.REPORT, Language.CHINESE)
    assert umit.does(Task.REPORT, Language.ENGLISH)


def test_what_is_not_for_archives_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="endoscopy video"):
        open_family(show("endo-fm"), ModelChoice("endo-fm"), tmp_path)


def test_limits_of_use_have_to_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no clinical or deployed use.*accept_use_limits = true"
    ) as caught:
        open_family(show("llava-med"), ModelChoice("llava-med", tmp_path), tmp_path)
    assert caught.value.code == "use-limits"
    for entry in list_models():
        if entry.acknowledge:
            with pytest.raises(ConfigurationError, match="accept_use_limits"):
                open_family(entry, ModelChoice(entry.id, tmp_path), tmp_path)


def test_an_adapter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nonesuch"):
        open_family(
            replace(show("lingshu-7b"), adapter="nonesuch"), ModelChoice("lingshu-7b", tmp_path), tmp_path
        )


def test_the_list_is_a_line_a_model_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_models(as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= 80 for line in shown)
    assert {line.split()[0] for line in shown[1 : len(list_models()) + 1]} == {
        entry.id for entry in list_models()
    }
    assert set(STATES) == set(State)


def test_the_list_as_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_models(as_json=True)
    shown = json.loads(capsys.readouterr().out)["models"]
    assert [one["id"] for one in shown] == [entry.id for entry in list_models()]
    told: dict[str, list[str]] = {}
    for one in shown:
        told.setdefault(one["impression"], []).append(one["id"])
    assert {name: sorted(ids) for name, ids in told.items() if name} == {
        name: sorted(ids) for name, ids in CONCLUDES.items()
    }
    by_id = {one["id"]: one for one in shown}
    assert by_id["medrega"]["memory_gib"]["bf16"] == pytest.approx(74.5, abs=0.1)
    assert by_id["umit"]["repositories"]["landmark"] == "dz-osamu/Landmark_Detection"


def test_one_entry_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_model("umit", as_json=False)
    shown = capsys.readouterr().out
    assert "dz-osamu/Disease_Detection" in shown
    assert re.search(r"revision +unknown here: pin what you bring", shown)


def test_the_page_on_serving_has_a_row_for_every_system_that_is_shown_images_through_a_server() -> None:
    page = (CATALOG_FILE.parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    names = [name.strip().removesuffix("*") for row in rows for name in row.split(",")]
    by_files = {"firstread-mini", "uni-med", "biomedclip", "nnunet", "openai-endpoint"}
    asked = [one.id for one in list_models() if one.images and one.tasks and one.id not in by_files]
    told = {
        one for one in asked for name in names if one == name or (name.endswith("-") and one.startswith(name))
    }
    assert sorted(set(asked) - told) == []


def test_the_questions_of_the_default_model_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_model("firstread-mini", as_json=False)
    shown = capsys.readouterr().out.splitlines()
    for words in ("  Is there a pneumothorax?", "  heart", "  pleural effusion", "  carina"):
        assert words in shown


def test_the_page_on_models_names_every_model_and_tests_that_exist() -> None:
    root = CATALOG_FILE.parents[1]
    page = (root / "docs" / "models.md").read_text(encoding="utf-8")
    table = page.partition("## Bringing weights")[0]
    named = set(re.findall(r"[\w.-]+", table))
    assert {entry.id for entry in list_models()} <= named
    tests = set(re.findall(r"tests/[\w/]+\.py", page))
    assert len(tests) >= 6
    assert [one for one in sorted(tests) if not (root / one).is_file()] == []


def test_adapters_that_are_named_exist_or_are_said_to_be_missing() -> None:
    for entry in list_models():
        if entry.adapter in ADAPTERS:
            assert callable(find_opener(entry, entry.adapter))
        elif entry.adapter:
            assert _row(entry)[2] == NO_ADAPTER


def test_a_broken_prompt_file_stops_the_run() -> None:
    with pytest.raises(StopRun, match=r"absent\.toml"):
        read_prompts("absent.toml")
