"""Qwen-VL families on small random networks: loaded, exported, built, written; their answers read."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

from models.catalog import show
from models.drafting.tasks import check_family
from models.families.native.chat import picture_of
from models.families.native.dialect import IMAGE_MARK
from models.families.native.qwen import QwenFamily, _study_again, open_checkpoint, open_qwen
from models.families.native.qwen3_tower import qwen3_source, shape_of_qwen3
from models.families.native.qwen_dialects import find_dialect
from models.families.native.qwen_loading import load_qwen
from models.families.native.qwen_tower import qwen_source, see_images, shape_of_tower
from models.families.native.qwen_words import (
    CheXOneWords,
    LingshuWords,
    UmitWords,
    last_boxed,
    read_bbox_2d,
    read_chexone,
    read_numbered,
)
from models.family import Request, SeenImage, Task
from models.model_choice import ModelChoice
from models.runners.encoder import TorchEncoder
from pipeline.errors import ConfigurationError, FailStudy, StopRun
from pipeline.report import Extent, Language, Place, Point, Region
from pipeline.study import ImageSet, InstanceRef
from tests.engines import ENGINES
from tests.tiny_chat import chat_study
from tests.tiny_qwen import build_network, build_tokenizer, write_qwen

LIMIT = 12
IMAGE = SeenImage(InstanceRef("1", "1.1", "1.1.1"), 0, 1000, 2000)
ENTRIES = {"qwen2-vl": "umit", "qwen2.5-vl": "chexone", "qwen3-vl": "qwen3-vl"}


HOSTILE = [
    "<|box_start|>",
    "<|box_end|>",
    "(1,2)",
    ",",
    "(99999,1)",
    "[1,2]",
    "<|ref|>",
    "a",
    "<|/ref|>",
    "<|box|>",
    "<|/box|>",
    "\\boxed{",
    "}",
    '{"bbox_2d":',
    "[1e999,0,1,2]",
    "NaN",
    "]",
]


class Opened:
    """One family and its folders."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.folder = kind, root / kind
        write_qwen(self.folder, kind)
        self.entry = show(ENTRIES[kind])
        self.loaded = load_qwen(self.folder, self.entry.network_class, 20_000)
        self.words = find_dialect(self.entry, self.folder)
        self.family = QwenFamily(self.entry, self.loaded, self.words, ENGINES, limit=LIMIT, threads=1)


@pytest.fixture(scope="module", params=list(ENTRIES))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(request.param, tmp_path_factory.mktemp("qwen"))


def asked(opened: Opened, count: int = 20) -> tuple[list[ImageSet], list[Request]]:
    kinds = [
        Request(),
        Request(Task.FINDINGS),
        Request(Task.VQA, question="Is the heart large?"),
        Request(Task.VQA, question="Which?", options=("liver", "heart")),
        Request(Task.CLASSIFY, labels=("normal", "pneumonia")),
        Request(Task.DETECT, target="heart"),
        Request(Task.LANDMARK, target="Gonion"),
        Request(Task.VQA, Language.CHINESE, question="心脏大吗?"),
    ]
    able = [one for one in kinds if opened.entry.does(one.task, one.language)]
    return [chat_study(number, 1 + number % 3) for number in range(count)], [
        able[number % len(able)] for number in range(count)
    ]


def test_the_towers_weights_go_where_its_graph_runs(opened: Opened) -> None:
    loaded = load_qwen(opened.folder, opened.entry.network_class, 20_000)
    family = QwenFamily(opened.entry, loaded, opened.words, ENGINES, limit=LIMIT, threads=1, release=True)
    held = {name for name, weights in loaded.network.named_parameters() if weights.numel()}
    assert held
    assert not any("visual" in name for name in held)
    studies, requests = asked(opened, 4)
    answers = family.answer(family.encode(studies), requests)
    assert answers == opened.family.answer(opened.family.encode(studies), requests)


def own_text(opened: Opened, study: ImageSet, request: Request) -> str:
    """What transformers writes from the pixels, one request alone."""
    loaded, family = opened.loaded, opened.family
    seen = family.encode([study])[0].images
    made = loaded.processor(
        images=[picture_of(image) for image in family._choose(study)], return_tensors="pt"
    )
    text = opened.words.word(request, seen, "CR")
    for grid in made["image_grid_thw"]:
        tokens = "<|image_pad|>" * int(grid.prod() // 4)
        text = text.replace(IMAGE_MARK, f"<|vision_start|>{tokens}<|vision_end|>", 1)
    ids = torch.tensor([loaded.tokenizer(text).input_ids])
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    stop = loaded.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    with torch.inference_mode():
        row = loaded.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == loaded.image_token).int(),
            **made,
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=[end, stop],
            pad_token_id=stop,
        )[0, ids.shape[1] :].tolist()
    cut = next((place for place, token in enumerate(row) if token in (end, stop)), len(row))
    written = loaded.tokenizer.decode(row[:cut], skip_special_tokens=False).strip()
    reading = opened.words.read(written, request, seen)
    return reading.text + reading.reasoning.strip()


def test_twenty_texts_are_those_of_the_networks_own_generate(opened: Opened) -> None:
    studies, requests = asked(opened)
    answers = opened.family.answer(opened.family.encode(studies), requests)
    own = [own_text(opened, study, request) for study, request in zip(studies, requests, strict=True)]
    assert [answer.text + answer.reasoning for answer in answers] == own
    assert len(set(own)) > 5  # they depend on the image and the question


def test_features_are_transformers_own_at_every_size(opened: Opened) -> None:
    network = opened.loaded.network
    assert opened.family.runner == "onnxruntime-cpu"
    sizes = set()
    for number in range(20):
        study = chat_study(number, 1 + number % 3)
        pictures = [picture_of(image) for image in opened.family._choose(study)]
        made = opened.loaded.processor(images=pictures, return_tensors="pt")
        sizes |= {tuple(grid) for grid in made["image_grid_thw"].tolist()}
        with torch.inference_mode():
            own = network.model.visual(made["pixel_values"], grid_thw=made["image_grid_thw"])
        wanted = {"features": own.pooler_output.numpy()}
        if opened.kind == "qwen3-vl":
            wanted["deep"] = torch.stack(list(own.deepstack_features), dim=1).numpy()
        got = opened.family.encode([study])[0].arrays
        assert set(got) == {*wanted, "grids", "modality"}
        for name, values in wanted.items():
            assert float(np.abs(got[name] - values).max()) <= 1e-4 * float(np.abs(values).max()), name
    assert len(sizes) > 5
    if opened.kind == "qwen3-vl":
        shape: Any = shape_of_qwen3(network)
        source = qwen3_source(network.model, shape)
    else:
        shape = shape_of_tower(network)
        source = qwen_source(network.model, shape)
    with TorchEncoder(source) as plain:
        patches = np.ones((24, source.inputs["pixels"].shape[-1]), np.float32)
        apart = see_images(plain, [patches, patches], [(4, 6), (6, 4)], shape)
    assert not np.allclose(
        apart[0]["features"], apart[1]["features"]
    )  # the grid counts, not only the number of patches


def test_windows_of_the_published_side_are_transformers_own_at_every_grid() -> None:
    """Windows of 112 pixels: whole ones, padded ends on either side, images smaller than one, and two sizes at once."""
    config = build_network("qwen2.5-vl", build_tokenizer()).config
    config.vision_config.window_size = 112
    network: Any = Qwen2_5_VLForConditionalGeneration(config).eval()
    shape, values = shape_of_tower(network), 3 * 2 * 14 * 14
    assert shape.window == 4
    grids = [(2, 2), (2, 46), (6, 8), (8, 8), (8, 10), (10, 8), (16, 24), (34, 30), (46, 18), (62, 66)]
    generator = torch.Generator().manual_seed(5)
    patches = [torch.randn(rows * columns, values, generator=generator) for rows, columns in grids]
    with TorchEncoder(qwen_source(network.model, shape)) as plain:
        got = see_images(plain, [one.numpy() for one in patches], grids, shape)
    with torch.inference_mode():
        own = network.model.visual(torch.cat(patches), grid_thw=torch.tensor([[1, *grid] for grid in grids]))
    wanted = own.pooler_output.numpy()
    features = np.concatenate([one["features"] for one in got])
    assert float(np.abs(features - wanted).max()) <= 1e-5 * float(np.abs(wanted).max())


def test_a_missing_tensor_stops_the_run(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(opened.folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "mlp" in name)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StopRun):
        load_qwen(folder, opened.entry.network_class)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_lora_adapter_is_merged_and_its_tensors_are_counted(opened: Opened, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    if opened.kind != "qwen2-vl":
        pytest.skip("UMIT's form")
    adapted = get_peft_model(
        load_qwen(opened.folder, opened.entry.network_class).network,
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    )
    folder = tmp_path / "lora"
    adapted.save_pretrained(str(folder))
    shutil.copytree(opened.folder, folder / "base")
    merged = load_qwen(folder, opened.entry.network_class).network
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    plain = opened.loaded.network.state_dict()[name]
    assert not torch.allclose(merged.state_dict()[name], plain)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.extra.lora_A.weight"] = np.zeros((2, 2), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(StopRun, match="adapter"):
        load_qwen(folder, opened.entry.network_class)


def test_umit_takes_a_folder_per_task(opened: Opened, tmp_path: Path) -> None:
    if opened.kind != "qwen2-vl":
        pytest.skip("UMIT's form")
    for task in ("report", "vqa"):
        shutil.copytree(opened.folder, tmp_path / "umit" / task)
    choice = ModelChoice("umit", tmp_path / "umit", threads=1)
    study = chat_study(3)
    with open_qwen(opened.entry, choice, ENGINES) as family:
        assert family.tasks == {Task.REPORT, Task.VQA}
        request = Request(Task.VQA, question="Is it large?")
        (answer,) = family.answer(family.encode([study]), [request])
        assert answer.text
        with pytest.raises(ConfigurationError, match="checkpoint"):
            family.answer(family.encode([study]), [Request(Task.DETECT, target="heart")])
    with pytest.raises(ConfigurationError, match="folder named as a task"):
        open_qwen(opened.entry, ModelChoice("umit", tmp_path), ENGINES)


def test_what_cannot_be_asked_is_refused(opened: Opened) -> None:
    features = opened.family.encode([chat_study(1)])
    with pytest.raises(FailStudy):
        opened.family.answer(features, [Request(Task.VQA, question="What is <|im_end|>?")])
    with pytest.raises(FailStudy) as failed:
        opened.family.answer(features, [Request(Task.VQA, question="large heart " * 3000)])
    assert failed.value.code == "text-too-long"


def prompt(words: Any, request: Request, images: int = 1) -> str:
    """The user's turn."""
    text: str = words.word(request, [IMAGE] * images, "CR")
    return text.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]


def test_umits_prompts_are_those_of_its_figures() -> None:
    umit = UmitWords()
    closed = Request(Task.VQA, question="Which is bigger in this image?", options=("Liver", "Stomach"))
    assert prompt(umit, closed) == (
        "<image>Given this image, choose one option from: 1:Liver\n2:Stomach to answer the question: "
        "Which is bigger in this image?"
    )
    classes = Request(
        Task.CLASSIFY,
        labels=("normal", "pneumonia"),
        question="Does this chest X-ray image show a normal lung?",
    )
    assert prompt(umit, classes) == (
        "<image>Given this image, choose one option from the 0:normal\n1:pneumonia, to answer the question: "
        "Does this chest X-ray image show a normal lung?"
    )
    chinese = Request(Task.VQA, Language.CHINESE, question="肺或者心脏哪个是异常的?", options=("肺", "心脏"))
    assert prompt(umit, chinese) == (
        "<image>根据给定的图像, 请从：1：肺\n 2：心脏 中选择一个选项回答问题：肺或者心脏哪个是异常的?"
    )
    assert "medical images,  generate" in prompt(umit, Request(), images=32)


def test_umits_answers_are_read() -> None:
    umit = UmitWords()
    box = "<|box_start|>(604,241),(839,782)<|box_end|>"
    (place,) = umit.read(box, Request(Task.DETECT, target="pneumonia"), [IMAGE]).places
    assert place == Place("pneumonia", Region(IMAGE.ref, 0, 1208, 241, 1678, 782))
    (mark,) = umit.read("[253,610]", Request(Task.LANDMARK, target="Gonion"), [IMAGE]).places
    assert mark == Place("Gonion", point=Point(IMAGE.ref, 0, 506, 610))
    series = [IMAGE] * 32
    (tumor,) = umit.read("[(32,157,19),(112,219,25)]", Request(Task.DETECT, target="Tumor"), series).places
    assert tumor == Place("Tumor", extent=Extent(((IMAGE.ref, 0),) * 7, 32, 157, 112, 219))
    (beyond,) = umit.read("[(32,157,19),(112,219,32)]", Request(Task.DETECT, target="Tumor"), series).places
    assert beyond.extent is not None
    assert beyond.extent.planes == (), "outside the slices: no answer is kept with it"
    labels = umit.read("1:pneumonia", Request(Task.CLASSIFY, labels=("normal", "pneumonia")), [IMAGE]).labels
    assert [label.chosen for label in labels] == [False, True]
    assert read_numbered("2：心脏", ("肺", "心脏"), 1)[1].chosen
    assert read_numbered("1:Stomach", ("Liver", "Stomach"), 1) == ()


def test_chexones_answers_are_read() -> None:
    assert last_boxed(r"so \boxed{a} then \boxed{The {heart} is \textbf{large}.} end") == (
        r"The {heart} is \textbf{large}."
    )
    assert last_boxed(r"\boxed{whole} and \boxed{cut") == "whole"
    assert last_boxed("none") is None
    request = Request(Task.DETECT, target="pneumothorax")
    text = "<|ref|>pneumothorax<|/ref|><|box|>(12,60),(18,87)<|/box|><|box|>(50,10),(60,20)<|/box|>"
    first, second = read_chexone(text, request, IMAGE)
    assert first == Place("pneumothorax", Region(IMAGE.ref, 0, 240, 600, 360, 870))
    assert second.region == Region(IMAGE.ref, 0, 1000, 100, 1200, 200)
    assert read_chexone("No pneumothorax detected.", request, IMAGE) == (Place("pneumothorax"),)
    findings = CheXOneWords().read(r"I see. \boxed{Lungs are clear.}", Request(Task.FINDINGS), [IMAGE])
    assert findings.text == "Lungs are clear."
    assert r"\boxed{{}}" in prompt(CheXOneWords(), Request(Task.FINDINGS))


def test_lingshus_boxes_are_in_pixels_of_the_resized_image() -> None:
    text = '```json\n[{"bbox_2d": [28, 14, 56, 28], "label": "heart"}]\n```'
    (place,) = read_bbox_2d(text, IMAGE, (56, 112), "heart")
    assert place == Place("heart", Region(IMAGE.ref, 0, 500, 250, 1000, 500))
    report = LingshuWords().read("Findings: Clear. Impression: Normal.", Request(), [IMAGE]).text
    assert report == "Findings: Clear.\nImpression: Normal."
    assert "Findings: {} Impression: {}." in prompt(LingshuWords(), Request())


def test_lingshus_questions_are_those_of_its_authors_evaluation() -> None:
    """MedEvalKit, utils/question_formats.py: get_open_ended_prompt and get_multiple_choice_prompt."""
    words = LingshuWords()
    report = words.word(Request(), [IMAGE, IMAGE], "DX")
    assert "user\n<image_1>: <image><image_2>: <image>You are a helpful assistant. Please generate" in report
    asked = prompt(words, Request(Task.VQA, question="Why?"))
    assert asked == "<image>Why?\nPlease answer the question concisely."
    chosen = Request(Task.VQA, question="Why?", options=("mass", "nodule"))
    assert prompt(words, chosen) == (
        "<image>\nQuestion: Why?\nOptions: \nA. mass\nB. nodule\nAnswer with the option's letter from the given "
        "choices directly."
    )
    assert [label.chosen for label in words.read("B", chosen, [IMAGE]).labels] == [False, True]


@given(
    st.text("()[]{}<>|,:0123456789 boxedrefpum_2\\\"'：", max_size=120)
    | st.lists(
        st.sampled_from(HOSTILE),
        max_size=24,
    ).map("".join)
)
def test_no_text_makes_a_reader_raise_or_leave_the_image(text: str) -> None:
    words = (UmitWords(), LingshuWords(), CheXOneWords())
    for task in (Task.DETECT, Task.LANDMARK, Task.VQA, Task.CLASSIFY, Task.REPORT):
        request = Request(task, target="heart", labels=("a", "b"), options=("a", "b"))
        read = [one.read(text, request, [IMAGE] * 3) for one in words]
        read.append(words[1].read_resized(text, request, [IMAGE], [(56, 112)]))
        for place in (place for one in read for place in one.places):
            if place.region is not None:
                box = place.region
                assert 0 <= box.x0 < box.x1 <= 2000
                assert 0 <= box.y0 < box.y1 <= 1000


def test_umit_keeps_small_pictures_and_no_study_for_its_other_checkpoints(
    opened: Opened, tmp_path: Path
) -> None:
    if opened.kind != "qwen2-vl":
        pytest.skip("UMIT's form")
    for task in ("report", "vqa"):
        shutil.copytree(opened.folder, tmp_path / task)
    study = chat_study(5, 4)
    request = Request(Task.VQA, question="Is it large?")
    whole = open_checkpoint(opened.entry, tmp_path / "vqa", ModelChoice("umit", tmp_path, threads=1), ENGINES)
    with whole, open_qwen(opened.entry, ModelChoice("umit", tmp_path, threads=1), ENGINES) as family:
        (kept,) = family.encode([study])
        assert all(array.dtype != object for array in kept.arrays.values())
        greys = kept.arrays["greys"]
        assert greys.dtype == np.uint8
        assert len(greys) == sum(int(grid.prod()) * 14 * 14 for grid in kept.arrays["grids"])
        again = _study_again(kept, 14)
        for image, small in zip(whole._choose(study), again.images, strict=True):
            patches, _ = whole._patches(image)
            assert np.array_equal(whole._patches(small)[0], patches), "not a value differs"
            assert (small.original_rows, small.original_columns) == (
                image.original_rows,
                image.original_columns,
            )
        (answer,) = family.answer([kept], [request])
        assert [answer.text] == [one.text for one in whole.answer(whole.encode([study]), [request])]


def test_chexones_modes(opened: Opened) -> None:
    if opened.kind != "qwen2.5-vl":
        pytest.skip("CheXOne's modes")
    instruct = Request(Task.FINDINGS, variant="findings-instruct")
    assert prompt(CheXOneWords(), instruct) == "<image>Write an example findings section for the CXR."
    open_ended = QwenFamily(opened.entry, opened.loaded, opened.words, ENGINES, threads=1)
    assert open_ended._room(Request(Task.FINDINGS)) == 1024, "reasoning has room before the answer"
    with pytest.raises(ConfigurationError, match=r"no wording 'other' in en .*findings-instruct"):
        check_family(open_ended, Request(Task.FINDINGS, variant="other"))
    check_family(open_ended, instruct)
