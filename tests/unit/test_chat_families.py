"""MedRegA, LLaVA-Med and MedGemma on small random networks: loaded, exported, built, written, read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.catalog import show
from models.families.native.chat import ChatFamily, picture_of
from models.families.native.dialect import IMAGE_MARK, Dialect
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect, pads
from models.families.native.medrega import MedRegaDialect
from models.families.native.networks import ChatNetwork, load_llava_med, load_medgemma, load_medrega
from models.family import Answer, Features, Request, Task
from pipeline.errors import FailStudy, StopRun
from pipeline.report import Language
from pipeline.study import ImageSet
from tests.engines import ENGINES
from tests.tiny_chat import chat_study, write_chat_model

LIMIT = 16
LOADERS = {"medrega": load_medrega, "llava-med": load_llava_med, "medgemma": load_medgemma}
ENTRIES = {"medrega": "medrega", "llava-med": "llava-med", "medgemma": "medgemma-1.5-4b-it"}
LABELS = ("normal", "pneumonia")


class Opened:
    """One family, its network and its folders."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.folder = kind, root / kind
        write_chat_model(self.folder, kind)
        self.loaded: ChatNetwork = LOADERS[kind](self.folder)
        dialects: dict[str, Dialect] = {
            "medrega": MedRegaDialect(),
            "llava-med": LlavaMedDialect(),
            "medgemma": MedGemmaDialect(most_images=3),
        }
        self.dialect = dialects[kind]
        self.entry = show(ENTRIES[kind])
        self.family = ChatFamily(self.entry, self.loaded, self.dialect, ENGINES, limit=LIMIT, threads=1)


@pytest.fixture(scope="module", params=list(LOADERS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(request.param, tmp_path_factory.mktemp("chat"))


def asked(opened: Opened, count: int = 20) -> tuple[list[ImageSet], list[Request]]:
    """Studies of one or several images, and requests of every task in turn."""
    kinds = [
        Request(),
        Request(Task.VQA, question="Is the heart large?"),
        Request(Task.CLASSIFY, labels=LABELS),
        Request(Task.VQA, question="Which?", options=LABELS),
        Request(Task.DETECT, target="heart"),
        Request(Task.GROUNDED_REPORT),
        Request(Task.REPORT, Language.CHINESE),
        Request(Task.FINDINGS),
    ]
    able = [one for one in kinds if opened.entry.does(one.task, one.language)]
    studies = [chat_study(number, 1 + number % 3) for number in range(count)]
    return studies, [able[number % len(able)] for number in range(count)]


def test_the_towers_weights_go_where_its_graph_runs(opened: Opened) -> None:
    loaded = LOADERS[opened.kind](opened.folder)
    family = ChatFamily(opened.entry, loaded, opened.dialect, ENGINES, limit=LIMIT, threads=1, release=True)
    held = {name for name, weights in loaded.network.named_parameters() if weights.numel()}
    assert held
    assert not any("vision_tower" in name or "projector" in name for name in held)
    studies, requests = asked(opened, 4)
    answers = family.answer(family.encode(studies), requests)
    assert answers == opened.family.answer(opened.family.encode(studies), requests)


def padded_pixels(opened: Opened, study: ImageSet) -> np.ndarray[Any, Any]:
    """The images padded to a square at their own size, through the family's own processor."""
    squares = []
    for image in opened.family._choose(study):
        picture = picture_of(image)
        square = Image.new("RGB", (max(picture.size),) * 2)
        square.paste(picture, pads(picture.height, picture.width))
        squares.append(square)
    pixels = opened.loaded.processor(images=squares, return_tensors="np")["pixel_values"]
    kept = opened.family.encode([study])[0].arrays["padded"]
    assert kept.dtype == np.uint8
    assert np.array_equal(
        opened.family._pixels([Image.fromarray(grey).convert("RGB") for grey in kept]), pixels
    )
    return np.asarray(pixels, np.float32)


def own_text(opened: Opened, study: ImageSet, request: Request) -> str:
    """What the family's own ``generate`` writes for one request, pixels and all."""
    loaded, dialect = opened.loaded, opened.dialect
    family = opened.family
    features = family.encode([study])[0]
    pixels = (
        padded_pixels(opened, study) if request.task is Task.DETECT and opened.kind == "medgemma" else None
    )
    pixels = family.prepare(study) if pixels is None else pixels
    text = dialect.word(request, features.images, "CR").replace(IMAGE_MARK, loaded.image_text)
    start = bool(loaded.tokenizer.bos_token) and text.startswith(loaded.tokenizer.bos_token)
    ids = torch.tensor([loaded.tokenizer(text, add_special_tokens=not start).input_ids])
    extra: dict[str, Any] = {}
    if loaded.marks_images:
        extra["token_type_ids"] = (ids == loaded.image_token).long()
    ends = [loaded.tokenizer.convert_tokens_to_ids(mark) for mark in dialect.ends]
    with torch.inference_mode():
        written = loaded.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=torch.from_numpy(pixels),
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **extra,
        )[0, ids.shape[1] :].tolist()
    cut = next((place for place, token in enumerate(written) if token in ends), len(written))
    text = loaded.tokenizer.decode(written[:cut], skip_special_tokens=not dialect.marks).strip()
    return dialect.read(text, request, features.images).text


def test_twenty_texts_are_those_of_the_networks_own_generate(opened: Opened) -> None:
    studies, requests = asked(opened)
    answers = opened.family.answer(opened.family.encode(studies), requests)
    own = [own_text(opened, study, request) for study, request in zip(studies, requests, strict=True)]
    assert [answer.text for answer in answers] == own
    assert len(set(own)) > 5  # they depend on the image and the question


def test_the_exported_encoder_sees_what_the_network_sees(opened: Opened) -> None:
    assert opened.family.runner == "onnxruntime-cpu"
    studies, _ = asked(opened, 6)
    for study, features in zip(studies, opened.family.encode(studies), strict=True):
        pixels = torch.from_numpy(opened.family.prepare(study))
        with torch.inference_mode():
            wanted = opened.loaded.network.get_image_features(
                pixel_values=pixels, return_dict=True
            ).pooler_output
        wanted = torch.stack(list(wanted)).numpy()
        error = np.abs(features.arrays["features"] - wanted).max() / np.abs(wanted).max()
        assert error <= 1e-4
        assert len(features.images) == len(pixels) <= opened.dialect.most_images


def test_marks_and_long_texts_are_refused(opened: Opened) -> None:
    features = opened.family.encode([chat_study(1)])
    with pytest.raises(FailStudy):
        opened.family.answer(features, [Request(Task.VQA, question="Where is <|im_end|>?")])
    with pytest.raises(FailStudy) as failed:
        opened.family.answer(features, [Request(Task.VQA, question="large heart " * 4000)])
    assert failed.value.code == "text-too-long"


def test_a_tokenizer_of_another_network_stops_the_run(opened: Opened, tmp_path: Path) -> None:
    import shutil

    from tests.tiny_text import build_tokenizer

    folder = tmp_path / "mixed"
    shutil.copytree(opened.folder, folder)
    build_tokenizer().save_pretrained(folder)
    with pytest.raises(StopRun):
        LOADERS[opened.kind](folder)


class Scripted(ChatFamily):
    """A family whose network writes what it is told, and that keeps what it was asked."""

    script: list[str]
    prompts: list[str]

    def _write(self, prompts: Any, limit: int, schemas: Any) -> list[tuple[str, bool]]:
        self.prompts += [self._loaded.tokenizer.decode(ids) for ids, _ in prompts]
        return [(self.script.pop(0), False) for _ in prompts]


def scripted(opened: Opened, script: list[str]) -> Scripted:
    family = Scripted(opened.entry, opened.loaded, opened.dialect, ENGINES, limit=LIMIT, threads=1)
    family.script, family.prompts = script, []
    return family


def one_answer(family: ChatFamily, features: Features, request: Request) -> Answer:
    return family.answer([features], [request])[0]


def test_medrega_looks_first_where_it_is_told_what_to_look_for(opened: Opened) -> None:
    if opened.kind != "medrega":
        pytest.skip("Regional CoT is MedRegA's")
    family = scripted(opened, ["<ref>heart</ref><box>[[10, 20, 30, 40]]</box>", "yes"])
    features = family.encode([chat_study(4)])[0]
    answer = one_answer(family, features, Request(Task.VQA, question="Is it large?", target="heart"))
    assert answer.text == "yes"
    assert len(family.prompts) == 2
    assert "Please locate <ref>heart</ref>" in family.prompts[0]
    assert "<ref>heart</ref><box>[[10, 20, 30, 40]]</box>\nIs it large?" in family.prompts[1]


def test_structured_answers_are_valid_under_their_schema(opened: Opened) -> None:
    if Task.STRUCTURED not in opened.entry.tasks:
        pytest.skip("this family does not write structures")
    schema = (
        '{"type": "object", "properties": {"large": {"type": "boolean"}}, "required": ["large"], '
        '"additionalProperties": false}'
    )
    family = ChatFamily(opened.entry, opened.loaded, opened.dialect, ENGINES, limit=40, threads=1)
    request = Request(Task.STRUCTURED, text="The heart is large.", schema=schema)
    answer = one_answer(family, Features((), {}), request)
    assert answer.structured.replace(" ", "").startswith('{"large":')


def test_limits_of_images_are_the_entrys(opened: Opened) -> None:
    entry = replace(opened.entry, images=1)
    family = ChatFamily(entry, opened.loaded, opened.dialect, ENGINES, limit=LIMIT, threads=1)
    assert len(family.encode([chat_study(5, 3)])[0].images) == 1
