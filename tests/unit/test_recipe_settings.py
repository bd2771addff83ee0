"""Every setting of a site, changed once: whether it enters the recipe, and why.

A setting that is in no table here fails the test: whoever adds one decides.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flows.environment.known_recipe import fingerprint
from flows.environment.site_models import chosen_model, model_choice, site_tasks
from models.drafter import open_drafter
from pipeline.report import Language
from pipeline.settings import Settings
from tests.engines import ENGINES
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.tiny_model import tiny_cache, tiny_weights

ELSEWHERE = {
    "data_dir": "where things lie",
    "database": "where things lie",
    "archives": "where bytes come from; the manifest of a study says what they are",
    "listen": "where bytes come from; the manifest of a study says what they are",
    "serve": "how drafts are read",
    "prefect": "where runs are recorded",
    "knowledge": "questions of people are answered from it; no draft is",
}
"""Tables of which no setting shapes a draft."""
SHAPES = {
    "model.id": "another family writes",
    "model.weights": "other weights write",
    "model.precision": "8 bits see a film a little otherwise",
    "model.revision": "the site says that its weights are others",
    "model.report": "another wording asks",
    "model.impression": "somebody else writes the Impression",
    "model.endpoint.model": "the server knows several",
    "model.endpoint.max_tokens": "a draft may be cut there",
    "model.endpoint.max_side": "the server is sent another picture",
    "model.endpoint.burned_in": "text in the pixels is blacked out, or the film does not go",
    "model.endpoint.seed": "the server is asked for another draw",
    "model.endpoint.json_schema": "the server is held to a form",
    "model.endpoint.special_tokens": "the text holds its marks",
    "policy.language": "the draft is in another language",
    "policy.priors": "the model is given an earlier film",
    "tasks": "another question is asked",
    "tasks.questions": "another question is asked",
    "tasks.labels": "other classes are offered",
    "tasks.options": "other answers are offered",
    "tasks.targets": "something else is looked for",
    "tasks.name_set": "other classes are offered, or something else is looked for (test_name_sets.py)",
    "tasks.schema_file": "another form is filled in",
    "tasks.language": "the question is in another language",
    "tasks.modalities": "other studies are asked",
    "tasks.model": "another model answers",
    "tasks.variant": "another wording asks",
    "routes.modalities": "another model drafts them (test_routes.py)",
    "routes.model": "another model drafts them (test_routes.py)",
}
LEAVES_ALONE = {
    "model.require_runner": "a demand; the runner that runs is a part of the recipe, and here it is the same",
    "model.encode_batch": "a draft is the same whatever its batch",
    "model.generate_batch": "a draft is the same whatever its batch",
    "model.threads": "a draft is the same on any number of cores",
    "model.accept_use_limits": "a statement of the site",
    "model.sha256": "a check; the digests of the weights are parts of the recipe",
    "model.endpoint.plain_http": "how a secret may travel",
    "model.endpoint.url": "the same model may move to another address",
    "model.endpoint.api_key": "who asks",
    "model.endpoint.ca_file": "who is trusted",
    "model.endpoint.connect_timeout": "patience",
    "model.endpoint.read_timeout": "patience",
    "model.endpoint.total_timeout": "patience",
    "model.endpoint.attempts": "patience",
    "model.endpoint.concurrency": "how many requests at once",
    "model.endpoint.stream": "the same answer in pieces (test_endpoint_streams.py)",
    "policy.draft_status": "how a draft is filed from now on; none is written anew for it",
    "policy.organization": "in whose name a draft is filed from now on",
    "policy.identifier_system": "by which names a draft is filed from now on",
    "policy.segmentations": "how a mask is written from now on",
    "policy.grace_minutes": "when a short study is drafted; its gap is on the report",
    "policy.retry_minutes": "when a study is tried again",
    "policy.max_attempts": "how often a study is tried",
    "policy.lease_seconds": "how long a claim holds",
}
SCHEMAS = {"a": {"type": "object", "properties": {"effusion": {"type": "boolean"}}, "required": ["effusion"]}}


def leaves(table: type[BaseModel], before: str = "") -> Iterator[str]:
    """The names of all settings; one of several tables is named once."""
    for name, field in table.model_fields.items():
        inner = [
            one for one in _types(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        if before + name in ELSEWHERE:
            yield before + name
        elif inner:
            for one in inner:
                yield from leaves(one, f"{before}{name}.")
        else:
            yield before + name


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for one in get_args(annotation):
        yield from _types(one)


def test_every_setting_is_decided() -> None:
    named = {name for name in leaves(Settings) if not name.startswith("models.")}  # as [model]
    decided = {*ELSEWHERE, *SHAPES, *LEAVES_ALONE} - {"tasks"}
    assert named - decided - {"tasks.task"} == set(), "decide whether it shapes a draft"
    assert decided - named == set(), "it is no setting any more"
    assert SHAPES.keys() & LEAVES_ALONE.keys() == set()


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[str, str]]:
    """The recipe of a configuration, asked of the opened model, and the fingerprint that it is remembered under."""

    asked: dict[str, tuple[str, str]] = {}
    folder = tmp_path_factory.mktemp("site")

    small = tiny_cache()

    def recipe(cache_dir: Path = small, **tables: Any) -> tuple[str, str]:
        """Asked once of each configuration: opening a model takes a while."""
        settings = Settings.model_validate({"data_dir": folder, **tables})
        schemas = [one.schema_file.read_text() for one in settings.tasks if one.schema_file is not None]
        secret = settings.model.endpoint.api_key.get_secret_value() if settings.model.endpoint else ""
        key = json.dumps([settings.model_dump(mode="json"), schemas, secret], default=str)
        if key not in asked:
            asked[key] = opened(settings, cache_dir)
        return asked[key]

    def opened(settings: Settings, cache_dir: Path) -> tuple[str, str]:
        choice, language = chosen_model(settings, ""), Language(settings.policy.language)
        with open_drafter(
            choice,
            cache_dir=cache_dir,
            language=language,
            code_version="code",
            tasks=site_tasks(settings, language),
            further={name: model_choice(one) for name, one in settings.models.items()},
            batch=settings.model.generate_batch,
            priors=settings.policy.priors,
        ) as drafter:
            return drafter.recipe, fingerprint(settings, choice, str(language))

    return recipe


def mini(**changed: Any) -> dict[str, Any]:
    return {"weights": tiny_weights(), **changed}


CHANGES: dict[str, Any] = {
    "require_runner": "onnxruntime-cpu",
    "encode_batch": 3,
    "generate_batch": 5,
    "threads": 1,
    "accept_use_limits": True,
    "revision": "0123456",
    "precision": "int8",
    "impression": "small",
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_setting_of_the_model(name: str, known: Callable[..., tuple[str, str]]) -> None:
    further = {"small": mini()}
    before, marked = known(model=mini(), models=further)
    after, marked_after = known(model=mini(**{name: CHANGES[name]}), models=further)
    assert (after != before) is (f"model.{name}" in SHAPES)
    assert marked_after != marked or after == before, "a recipe is remembered under what it is made of"


def test_other_weights(known: Callable[..., tuple[str, str]]) -> None:
    shipped = known(ENGINES, model={})
    assert all(one != other for one, other in zip(known(model=mini()), shipped, strict=True))


SERVED: dict[str, Any] = {
    "model": "another",
    "api_key": "secret",
    "connect_timeout": 3.0,
    "read_timeout": 4.0,
    "total_timeout": 99.0,
    "attempts": 2,
    "plain_http": True,
    "concurrency": 2,
    "burned_in": "mask",
    "max_tokens": 100,
    "max_side": 512,
    "seed": 7,
    "json_schema": True,
    "special_tokens": True,
}


def served(server: FaultyEndpoint, family: str = "lingshu-7b", **changed: Any) -> dict[str, Any]:
    return {
        "id": family,
        "accept_use_limits": True,
        "endpoint": {"url": server.url, "model": "served", **changed},
    }


@pytest.mark.parametrize("name", sorted(SERVED))
def test_a_setting_of_the_server(
    name: str, server: FaultyEndpoint, known: Callable[..., tuple[str, str]]
) -> None:
    before, _ = known(model=served(server))
    after, _ = known(model=served(server, **{name: SERVED[name]}))
    assert (after != before) is (f"model.endpoint.{name}" in SHAPES)


def test_another_family_and_another_wording(
    server: FaultyEndpoint, known: Callable[..., tuple[str, str]]
) -> None:
    usual = known(model=served(server, "medrega"))[0]
    assert known(model=served(server, "lingshu-7b"))[0] != usual
    assert known(model={**served(server, "medrega"), "report": "report-iu"})[0] != usual


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("language", {"language": "en"}, {"language": "zh"}),
        ("priors", {"priors": "off"}, {"priors": "last"}),
        ("draft_status", {}, {"draft_status": "preliminary"}),
        ("organization", {}, {"organization": "Another"}),
        ("identifier_system", {}, {"identifier_system": "urn:another"}),
        ("grace_minutes", {}, {"grace_minutes": 1}),
        ("retry_minutes", {}, {"retry_minutes": 1}),
        ("max_attempts", {}, {"max_attempts": 2}),
        ("lease_seconds", {}, {"lease_seconds": 30}),
    ],
)
def test_a_setting_of_the_policy(
    name: str, before: dict[str, Any], after: dict[str, Any], known: Callable[..., tuple[str, str]]
) -> None:
    first, marked = known(model=mini(), policy=before)
    second, marked_after = known(model=mini(), policy=after)
    assert (second != first) is (f"policy.{name}" in SHAPES)
    assert marked_after != marked or second == first


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [{"task": "detect", "targets": ["heart"]}]),
        ([{"task": "detect", "targets": ["heart"]}], [{"task": "detect", "targets": ["nodule"]}]),
        (
            [{"task": "detect", "targets": ["heart"]}],
            [{"task": "detect", "targets": ["heart"], "language": "zh"}],
        ),
        (
            [{"task": "detect", "targets": ["heart"]}],
            [{"task": "detect", "targets": ["heart"], "modalities": ["CR"]}],
        ),
        (
            [{"task": "detect", "targets": ["heart"]}],
            [{"task": "detect", "targets": ["heart"], "model": "small"}],
        ),
        (
            [{"task": "vqa", "questions": ["Is there a pneumothorax?"]}],
            [{"task": "vqa", "questions": ["Is there a nodule?"]}],
        ),
        (
            [{"task": "vqa", "questions": ["Is there a nodule?"]}],
            [{"task": "vqa", "questions": ["Is there a nodule?"], "options": ["yes", "no"]}],
        ),
        (
            [{"task": "classify", "labels": ["nodule", "cardiomegaly"]}],
            [{"task": "classify", "labels": ["nodule", "pneumothorax"]}],
        ),
    ],
)
def test_a_setting_of_the_tasks(
    before: list[dict[str, Any]], after: list[dict[str, Any]], known: Callable[..., tuple[str, str]]
) -> None:
    tables = {"model": mini(), "models": {"small": mini()}}
    first, marked = known(**tables, tasks=before)
    second, marked_after = known(**tables, tasks=after)
    assert first != second
    assert marked != marked_after


def test_a_changed_schema_and_variant(
    tmp_path: Path, server: FaultyEndpoint, known: Callable[..., tuple[str, str]]
) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMAS["a"]))
    table = {"task": "structured", "schema_file": path}
    first, _ = known(model=served(server, "openai-endpoint"), tasks=[table])
    path.write_text(json.dumps({**SCHEMAS["a"], "title": "another"}))
    assert known(model=served(server, "openai-endpoint"), tasks=[table])[0] != first
    report = {"task": "report", "language": "en"}
    asked = known(model=served(server, "medrega"), tasks=[report])[0]
    assert known(model=served(server, "medrega"), tasks=[{**report, "variant": "report-iu"}])[0] != asked
