"""What every model family must do, run on every adapter: small random weights, and a real server for the endpoint.

Compiling is not here: tests/contract/test_compile_contract.py.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from models.catalog import CatalogEntry, show
from models.drafter import refuse_prior_unread
from models.drafting.tasks import check_family, task_answer
from models.families.endpoint.endpoint_family import EndpointFamily
from models.families.mini.prompts import known_questions
from models.families.registry import ADAPTERS, open_family
from models.family import TEXT_TASKS, Answer, Family, Features, Request, Task, traits_of
from models.model_choice import EndpointOptions, ModelChoice
from models.runners.written_text import WrittenText
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy, StopRun
from pipeline.fhir import validate
from pipeline.fhir.answers import TASK_SYSTEM
from pipeline.fhir.observations import REGION
from pipeline.report import Language, Region, TaskAnswer
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES, graphs_of
from tests.tiny_families import LIMIT, TINY, TinyFamily, tiny_family
from tests.unit.fhir_samples import DRAFT, FRONTAL, built

ENDPOINT = "openai-endpoint"
SCHEMA = '{"type": "object", "properties": {"effusion": {"type": "boolean"}}, "required": ["effusion"]}'
ENGLISH = Language.ENGLISH
WRITES: dict[str, tuple[str, tuple[float, float, float, float] | None]] = {
    "firstread-mini": ("{<0><0><9><9>}", None),  # its numbers are the heads', whatever it writes
    "uni-med": ("{<10><20><50><100>}", (0.1, 0.2, 0.5, 1.0)),
    "medrega": ("<ref>heart</ref><box>[[111, 222, 666, 999]]</box>", (1 / 9, 2 / 9, 2 / 3, 1.0)),
    # of the film of 120 x 150 padded to a square of 150: 15 columns of padding on either side
    "medgemma-1.5-4b-it": (
        'Final Answer: [{"box_2d": [100, 200, 500, 800], "label": "heart"}]',
        (0.125, 0.1, 0.875, 0.5),
    ),
    "radvlm": (
        "The heart is located at the coordinates [0.1, 0.25, 0.5, 1.0] on the image.",
        (0.1, 0.25, 0.5, 1.0),
    ),
    "umit": ("<|box_start|>(0,0),(500,250)<|box_end|>", (0.0, 0.0, 0.5, 0.25)),
    "lingshu-7b": ('[{"bbox_2d": [14, 14, 28, 56], "label": "heart"}]', None),  # in pixels of its own size
    "qwen3-vl": ('```json\n[{"bbox_2d": [0, 0, 500, 250], "label": "heart"}]\n```', (0.0, 0.0, 0.5, 0.25)),
    "qwen3-vl-media": (
        '```json\n[{"bbox_2d": [0, 0, 500, 250], "label": "heart"}]\n```',
        (0.0, 0.0, 0.5, 0.25),
    ),
    "chexone": ("<|ref|>heart<|/ref|><|box|>(0,0),(50,100)<|/box|>", (0.0, 0.0, 0.5, 1.0)),
}
"""How each family writes a box, and where that lies in shares of the image's columns and rows; None: see there."""

FORMAL = ("chexone", "nv-reason-cxr")
"""Their answers stand in a box, or are names of a list: what random weights write is none."""


@dataclass(frozen=True)
class Subject:
    """A family under test, loaded, with what it answers to all that it can be asked."""

    kind: str
    tiny: TinyFamily

    @cached_property
    def family(self) -> Family:
        return self.tiny.open()

    @property
    def entry(self) -> CatalogEntry:
        return self.tiny.entry

    @property
    def sees(self) -> bool:
        return bool(self.entry.images)

    @cached_property
    def studies(self) -> list[ImageSet]:
        return [study(number, rows=120 + 20 * number) for number in range(3)]

    @cached_property
    def features(self) -> list[Features]:
        return self.family.encode(self.studies)

    @cached_property
    def asked(self) -> list[tuple[Features, Request]]:
        """Every task in every language, of the studies in turn."""
        pairs = [(task, language) for task in Task for language in Language if self.does(task, language)]
        given = []
        for number, (task, language) in enumerate(pairs):
            features = self.features[number % len(self.features)]
            given.append((features, ask(self.kind, task, language, features)))
        return given

    @cached_property
    def answers(self) -> list[Answer]:
        return self.family.answer(*map(list, zip(*self.asked, strict=True)))

    def does(self, task: Task, language: Language) -> bool:
        held = traits_of(self.family).language_tasks.get(language, self.family.tasks)
        return task in self.family.tasks & held and language in self.family.languages


def study(number: int, rows: int = 150, scale: int = 2, ref: InstanceRef | None = None) -> ImageSet:
    """A frontal film of structured noise, ``rows`` high at its working size and ``scale`` times that as stored."""
    coarse = np.random.default_rng(number).random((rows // 10, 12))
    pixels = np.kron(coarse, np.ones((10, 10))).astype(np.float32)
    ref = ref or InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
    size = (scale * pixels.shape[0], scale * pixels.shape[1])
    image = StudyImage(ref, 0, pixels, *size, None, "CR", "CHEST", "PA", "MONOCHROME2")
    return ImageSet(ref.study_instance_uid, (image,))


def ask(kind: str, task: Task, language: Language, features: Features) -> Request:
    """A request of ``task`` with all that it needs, in words that every family knows."""
    english = language is ENGLISH
    question = "Is the heart large?" if english else "心脏大吗？"
    labels: tuple[str, ...] = ("normal", "nodule")
    if task is Task.GROUNDED_REPORT:
        labels = () if english else ("肺癌",)
    region = None
    if features.images:
        image = features.images[0]
        region = Region(image.ref, image.frame, 24, 60, 120, 200)
    return Request(
        task,
        language,
        question=known_questions(language.value)[0] if kind == "firstread-mini" else question,
        region=region,
        labels=labels,
        target={Task.DETECT: "heart", Task.LANDMARK: "carina"}.get(task, ""),
        text="The lungs are clear." if english else "双肺未见实变影。",
        schema=SCHEMA,
    )


@pytest.fixture(scope="module", params=[*TINY, ENDPOINT])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    if kind == ENDPOINT:
        model = request.getfixturevalue("served_image_model")
        options = EndpointOptions(
            request.getfixturevalue("model_server"), str(model), max_tokens=LIMIT, read_timeout=60
        )
        entry = show(ENDPOINT)
        tiny = TinyFamily(entry, folder, lambda: EndpointFamily(entry, options), options)
    else:
        tiny = tiny_family(kind, folder)
    made = Subject(kind, tiny)
    with made.family:
        yield made


def test_every_adapter_is_under_test() -> None:
    of_volumes = {
        "nnunet"
    }  # it is shown no pictures and says no words: test_segmenter.py, test_segmentation.py
    assert {show(name).adapter for name in (*TINY, ENDPOINT)} == set(ADAPTERS) - of_volumes


def test_it_opens_by_its_catalogue_entry_once_its_terms_are_accepted(subject: Subject) -> None:
    def opened(*, accepted: bool) -> Family:
        return open_family(
            subject.entry,
            ModelChoice(
                subject.entry.id,
                None if subject.tiny.endpoint else subject.tiny.folder,
                threads=1,
                accept_use_limits=accepted,
                endpoint=subject.tiny.endpoint,
            ),
            ENGINES,
        )

    if subject.entry.acknowledge:
        with pytest.raises(ConfigurationError, match="accept_use_limits"):
            opened(accepted=False)
    with opened(accepted=True) as family:
        assert (family.model_id, family.model_version) == (subject.entry.id, subject.entry.version)
        assert family.tasks <= set(subject.entry.tasks)
        assert family.languages == set(subject.entry.languages)
        assert traits_of(family) == traits_of(subject.family)
        assert family.parts == subject.family.parts, "the same weights make the same recipe"


def test_its_parts_tell_weights_prompts_and_runner(subject: Subject) -> None:
    parts = subject.family.parts
    assert parts["runner"] == subject.family.runner
    assert parts["prompts"]
    assert all(parts.values())
    if subject.kind != ENDPOINT:
        held = {
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in subject.tiny.folder.rglob("*.safetensors")
        }
        told = {value for name, value in parts.items() if name.startswith("weights/")}
        assert held <= told


def test_what_sees_runs_its_graph_and_no_other_runner(subject: Subject) -> None:
    if subject.kind == ENDPOINT or not subject.sees:
        assert subject.family.runner in ("endpoint", "torch")
        return
    assert subject.family.runner == "onnxruntime-cpu"
    assert all(one.is_file() for one in graphs_of(subject.family.parts))
    with pytest.raises(StopRun):
        open_family(
            subject.entry,
            ModelChoice(
                subject.entry.id,
                subject.tiny.folder,
                require_runner="onnxruntime-cuda",
                accept_use_limits=True,
            ),
            ENGINES,
        )


def test_a_batch_of_studies_is_encoded_as_each_alone(subject: Subject) -> None:
    assert subject.family.encode([]) == []
    for one, together in zip(subject.studies, subject.features, strict=True):
        (alone,) = subject.family.encode([one])
        assert alone.images == together.images
        assert alone.arrays.keys() == together.arrays.keys()
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(values, together.arrays[name], err_msg=name)


def test_features_say_what_was_seen(subject: Subject) -> None:
    for one, features in zip(subject.studies, subject.features, strict=True):
        if not subject.sees:
            assert features == Features((), {})
            continue
        (image,), (seen,) = one.images, features.images
        assert (seen.ref, seen.frame) == (image.ref, image.frame)
        assert (seen.rows, seen.columns) == (image.original_rows, image.original_columns)
        pixels = subject.family.prepare(one)
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()


def test_a_study_without_images_is_skipped(subject: Subject) -> None:
    nothing = ImageSet("1.2", ())
    with pytest.raises(SkipStudy):
        subject.family.prepare(nothing)
    if not subject.sees:
        assert subject.family.encode([nothing]) == [Features((), {})]
        return
    with pytest.raises(SkipStudy):
        subject.family.encode([nothing])
    with pytest.raises(SkipStudy):
        subject.family.encode([subject.studies[0], nothing])


def test_an_earlier_film_is_looked_at_where_it_says_so(subject: Subject) -> None:
    (alone,) = subject.family.encode([subject.studies[0]])
    (compared,) = subject.family.encode([replace(subject.studies[0], priors=subject.studies[1].images)])
    same = all(np.array_equal(alone.arrays[name], compared.arrays[name]) for name in alone.arrays)
    assert compared.images == alone.images, "no region lies on it"
    if traits_of(subject.family).reads_priors:
        assert not same
        refuse_prior_unread(subject.family)
    else:
        assert same
        with pytest.raises(ConfigurationError, match="does not compare"):
            refuse_prior_unread(subject.family)


def test_a_batch_of_every_task_is_answered_as_each_alone(subject: Subject) -> None:
    assert {request.task for _, request in subject.asked} == subject.family.tasks
    assert {request.language for _, request in subject.asked} == subject.family.languages
    for (features, request), together in zip(subject.asked, subject.answers, strict=True):
        check_family(subject.family, request)
        assert subject.family.answer([features], [request]) == [together], request


def test_answers_can_be_kept(subject: Subject) -> None:
    refused, kept = [], []
    for (features, request), answer in zip(subject.asked, subject.answers, strict=True):
        try:
            kept.append(task_answer(request, answer, features.images))
        except FailStudy as failure:
            refused.append(failure.code)
    assert set(refused) <= {"answer-empty"}, (
        "random weights may write nothing, but no place outside the image"
    )
    assert len(kept) > len(refused) or subject.kind in FORMAL


class Saying:
    """A decoder that writes one text, whatever it is given."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        ids = tokenizer.encode(text, add_special_tokens=False)
        self.text = WrittenText(tuple(getattr(ids, "ids", ids)), truncated=False)

    def write(self, prompts: list[Any], max_new_tokens: int) -> list[WrittenText]:
        return [self.text] * len(prompts)


@pytest.fixture
def writes_boxes(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A family whose decoder writes a box: random weights write none."""
    if Task.DETECT not in subject.family.tasks:
        pytest.skip("this family writes no regions")
    text, _ = WRITES[subject.kind]
    family: Any = subject.family
    if hasattr(family, "_write"):
        monkeypatch.setattr(family, "_write", lambda prompts, limit, schemas: [(text, False)] * len(prompts))
    else:
        monkeypatch.setattr(family, "_language", Saying(family._tokenizer, text))
    return subject


def detected(subject: Subject, scale: int) -> tuple[ImageSet, Answer, TaskAnswer]:
    """What is detected on one film, stored at ``scale`` times its working size."""
    film = study(7, scale=scale, ref=FRONTAL)
    (features,) = subject.family.encode([film])
    request = Request(Task.DETECT, target="heart")
    (answer,) = subject.family.answer([features], [request])
    return film, answer, task_answer(request, answer, features.images)


def test_regions_leave_in_pixels_of_the_original_and_reach_fhir(writes_boxes: Subject) -> None:
    _, once, _ = detected(writes_boxes, 1)
    film, answer, told = detected(writes_boxes, 7)
    (place,) = answer.places
    region, small = place.region, once.places[0].region
    assert region is not None
    assert small is not None
    edges = (region.x0, region.y0, region.x1, region.y1)
    assert (region.ref, region.frame, place.name) == (FRONTAL, 0, "heart")
    assert edges == pytest.approx([7 * edge for edge in (small.x0, small.y0, small.x1, small.y1)])
    (image,) = film.images
    if shares := WRITES[writes_boxes.kind][1]:
        wide, high = image.original_columns, image.original_rows
        assert edges == pytest.approx(
            [shares[0] * wide, shares[1] * high, shares[2] * wide, shares[3] * high]
        )
    resources = built(draft=replace(DRAFT, answers=(told,)), image_set=film)
    validate(resources)
    bodies = [one.body for one in resources if one.resource_type == "Observation"]
    (observation,) = [
        one for one in bodies if one["code"].get("coding", [{}])[0].get("system") == TASK_SYSTEM
    ]
    (component,) = observation["component"]
    (extension,) = [one for one in component["extension"] if one["url"] == REGION]
    values = {part["url"]: part for part in extension["extension"]}
    assert values["sopInstanceUid"]["valueId"] == FRONTAL.sop_instance_uid
    stored = [float(values[edge]["valueDecimal"]) for edge in ("x0", "y0", "x1", "y1")]
    assert stored == pytest.approx(edges, abs=0.01)


def test_what_it_does_not_do_is_refused_in_either_language(subject: Subject) -> None:
    undone = [(task, language) for task in Task for language in Language if not subject.does(task, language)]
    assert undone
    features = subject.features[0]
    for task, language in undone:
        request = ask(subject.kind, task, language, features)
        with pytest.raises(ConfigurationError):
            subject.family.answer([features], [request])
        with pytest.raises(ConfigurationError, match=subject.entry.id):
            check_family(subject.family, request)


def test_a_question_about_an_image_needs_one(subject: Subject) -> None:
    looking = [request for _, request in subject.asked if request.task not in TEXT_TASKS]
    assert bool(looking) == subject.sees
    for request in looking:
        with pytest.raises(FailStudy):
            subject.family.answer([Features((), {})], [request])


def test_features_and_requests_go_in_pairs(subject: Subject) -> None:
    (features, request), *_ = subject.asked
    with pytest.raises(ValueError, match=r"pairs|argument 2 is shorter"):
        subject.family.answer([features, features], [request])
    with pytest.raises(ValueError, match=r"pairs|argument 2 is shorter"):
        subject.family.answer([features], [])


def test_threads_share_it(subject: Subject) -> None:
    requests = [request for _, request in subject.asked[:2]] * 2

    def work(number: int) -> Answer:
        (features,) = subject.family.encode([subject.studies[0]])
        return subject.family.answer([features], [requests[number]])[0]

    (features,) = subject.family.encode([subject.studies[0]])
    expected = [subject.family.answer([features], [request])[0] for request in requests]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(len(requests)))) == expected


def test_it_may_be_closed_twice(subject: Subject) -> None:
    family = subject.tiny.open()
    with family:
        pass
    family.__exit__(None, None, None)
