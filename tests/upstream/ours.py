"""Our side of each system: small weights, what is asked, and pixels, tokens and limits as the family makes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.catalog import show
from models.families.native.biomedclip import load_biomedclip
from models.families.native.chat import LIMIT
from models.families.native.dialect import IMAGE_MARK
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect
from models.families.native.medrega import MedRegaDialect
from models.families.native.networks import load_llava_med, load_medgemma, load_medrega
from models.families.native.qwen_dialects import WORDS
from models.families.native.qwen_loading import IMAGE_TOKEN, VISION_END, VISION_START, load_checkpoint
from models.families.prompt_proof import tokens_of
from models.families.text.recipes import RECIPES
from models.families.uni_med.uni_med_family import normalise, squash
from models.family import Request, Task
from models.networks.uni_med import TASKS, load_encoder
from models.training.convert_uni_med import TrainedAs, convert
from models.weight_loading.piece_file import open_tokenizer
from tests.tiny_chat import write_chat_model
from tests.tiny_clip import clip_weights, write_clip
from tests.tiny_qwen import write_qwen
from tests.tiny_text import build_tokenizer
from tests.tiny_uni_med import write_uni_med
from tests.unit.test_proving import GEMMA, QWEN
from tests.upstream.ours_clips import clips_side
from tests.upstream.ours_tiled import TILED
from tests.upstream.sides import SEEN, Made, Side, films, write_older_tokenizer

ASKED_SHAPE: dict[str, Any] = {"tower": {"img_size": 56, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2,
                         "mlp_ratio": 2, "use_mean_pooling": False, "num_classes": 0}}  # fmt: skip


def _ask(work: Path, asked: object) -> None:
    (work / "asked.json").write_text(json.dumps(asked))


REPORT = "Please review the chest X-ray image and generate a report that assesses any abnormalities."
QWEN_ASKED = {
    "umit": {"report": (REPORT, 1), "two films": (REPORT, 2)},
    "chexone": {
        "findings": ("Write an example findings section for the CXR. Please reason step by step, and put your final "
                     "answer within \\boxed{{}}.", 1),
        "instruct": ("Write an example findings section for the CXR.", 2)},
    "lingshu": {"report": ("report", "", [], 2), "report of one film": ("report", "", [], 1),
                "question": ("open", "Is there an effusion?", [], 1),
                "options": ("choice", "Which is it?", ["A. mass", "B. nodule"], 1)},
}  # fmt: skip
PUBLISHED = {
    "min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor",
}  # fmt: skip
"""In the form of Qwen2-VL's and Qwen2.5-VL's own preprocessor_config.json, which says its limits so."""
QWEN_REQUESTS = {
    "umit": {"report": (Request(), 1), "two films": (Request(), 2)},
    "chexone": {"findings": (Request(Task.FINDINGS), 1),
                "instruct": (Request(Task.FINDINGS, variant="findings-instruct"), 2)},
    "lingshu": {"report": (Request(), 2), "report of one film": (Request(), 1),
                "question": (Request(Task.VQA, question="Is there an effusion?"), 1),
                "options": (Request(Task.VQA, question="Which is it?", options=("mass", "nodule")), 1)},
}  # fmt: skip


def _qwen(name: str) -> Side:
    entry = show({"lingshu": "lingshu-7b"}.get(name, name))
    kind = "qwen2-vl" if name == "umit" else "qwen2.5-vl"

    def prepare(work: Path) -> None:
        folder = write_qwen(work / "weights", kind)
        (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))
        (folder / "chat_template.jinja").write_text(QWEN)
        _ask(work, QWEN_ASKED[name])

    def make(work: Path) -> Made:
        loaded = load_checkpoint(entry, work / "weights", "fp32")
        seen = films(work)
        made = {one: loaded.processor(images=[picture], return_tensors="np") for one, picture in seen.items()}
        arrays = {one: values["pixel_values"] for one, values in made.items()}
        arrays |= {f"{one}-grid": values["image_grid_thw"] for one, values in made.items()}
        words = WORDS[entry.prompts](entry.prompts, entry.images)
        tokens = [int(values["image_grid_thw"].prod()) // 4 for values in list(made.values())[2:]]
        ids = {}
        for one, (request, count) in QWEN_REQUESTS[name].items():
            text = words.word(request, [SEEN] * count, "DX")
            for number in tokens[:count]:
                text = text.replace(IMAGE_MARK, f"{VISION_START}{IMAGE_TOKEN * number}{VISION_END}", 1)
            ids[one] = tokens_of(loaded.tokenizer, text)
        size = loaded.processor.size
        limits = {"new tokens": words.most_tokens or 1024, "images": entry.images,
                  "penalty": words.repetition_penalty or 1.0, "min_pixels": size["shortest_edge"],
                  "max_pixels": size["longest_edge"]}  # fmt: skip
        return Made(arrays, ids, limits)

    return Side(prepare, make)


def _pixels(processor: Any, work: Path) -> dict[str, Any]:
    return {
        one: np.asarray(processor(images=[picture], return_tensors="np")["pixel_values"])
        for one, picture in films(work).items()
    }


def _medgemma() -> Side:
    words = {"report": ("Describe this X-ray", 1), "two films": ("Describe this X-ray", 2)}

    def prepare(work: Path) -> None:
        folder = write_chat_model(work / "weights", "medgemma")
        (folder / "chat_template.jinja").write_text(GEMMA)
        _ask(work, words)

    def make(work: Path) -> Made:
        loaded, dialect = load_medgemma(work / "weights", "fp32"), MedGemmaDialect()
        ids = {}
        for one, (_, count) in words.items():
            text = dialect.word(Request(), [SEEN] * count, "DX").replace(IMAGE_MARK, loaded.image_text)
            ids[one] = tokens_of(loaded.tokenizer, text)
        return Made(_pixels(loaded.processor, work), ids)

    return Side(prepare, make)


def _llava_med() -> Side:
    questions = {"report": "Describe the findings in this medical image and conclude with an impression.",
                 "question": "Is there an effusion?"}  # fmt: skip

    def prepare(work: Path) -> None:
        write_older_tokenizer(write_chat_model(work / "weights", "llava-med"))
        _ask(work, questions)

    def make(work: Path) -> Made:
        loaded, dialect = load_llava_med(work / "weights", "fp32"), LlavaMedDialect()
        asked = {"report": Request(), "question": Request(Task.VQA, question=questions["question"])}
        ids = {}
        for one, request in asked.items():
            read = tokens_of(loaded.tokenizer, dialect.word(request, [SEEN], "DX"))
            ids[one] = [-200 if token == loaded.image_token else token for token in read]
        return Made(_pixels(loaded.processor, work), ids, {"new tokens": dialect.most_tokens})

    return Side(prepare, make)


def _medrega() -> Side:
    def make(work: Path) -> Made:
        loaded, dialect = load_medrega(work / "weights", "fp32"), MedRegaDialect()
        asked = json.loads((work / "theirs.json").read_text())["asked"]
        ids = {
            one: tokens_of(loaded.tokenizer, dialect.frame(words).replace(IMAGE_MARK, loaded.image_text))
            for one, words in asked.items()
        }
        return Made(_pixels(loaded.processor, work), ids, {"new tokens": LIMIT})

    return Side(lambda work: write_older_tokenizer(write_chat_model(work / "weights", "medrega")), make)


def _ming() -> Side:
    words = {"qwen": ("qwen", "Is there an effusion?"), "bloom": ("bloom", "Is there an effusion?")}
    recipes = {"qwen": "ming-1.8b", "bloom": "ming-7b"}

    def prepare(work: Path) -> None:
        tokenizer = build_tokenizer()
        tokenizer.chat_template = None
        tokenizer.save_pretrained(work / "weights")
        write_older_tokenizer(work / "weights")
        _ask(work, words)

    def make(work: Path) -> Made:
        tokenizer = open_tokenizer(work / "weights")
        ids = {one: list(tokenizer(RECIPES[recipes[one]].template.replace("{question}", text)).input_ids)
               for one, (_, text) in words.items()}  # fmt: skip
        return Made({}, ids)

    return Side(prepare, make)


def _uni_med() -> Side:
    def prepare(work: Path) -> None:
        write_uni_med(work / "weights", adapter=False)
        shape = ASKED_SHAPE | {"language_width": 32}
        shape["connector"] = {
            "img_size": 56, "resample_rate": 4, "projector_type": "moe_mlp", "has_moe": True, "num_experts": 5,
            "task_token_c": 96, "router_type": "soft", "num_task_tokens": 1,
        }  # fmt: skip
        (work / "shape.json").write_text(json.dumps(shape))

    def make(work: Path) -> Made:
        grey = {one: squash((np.asarray(picture.convert("L"), np.float32) / np.float32(255)), 56)
                for one, picture in films(work).items()}  # fmt: skip
        arrays: dict[str, Any] = {one: normalise(values[None]) for one, values in grey.items()}
        convert(work / "checkpoint.safetensors", work / "tower.safetensors", work / "weights" / "language",
                work / "converted", TrainedAs(heads=2))  # fmt: skip
        encoder = load_encoder(work / "converted")
        pixels = torch.from_numpy(np.concatenate([arrays[one] for one in grey]))
        with torch.inference_mode():
            for number, task in enumerate(TASKS):
                arrays[f"features-{task}"] = encoder(pixels, torch.full((len(grey),), number)).numpy()
        return Made(arrays)

    return Side(prepare, make)


def _biomedclip() -> Side:
    def make(work: Path) -> Made:
        loaded: Any = load_biomedclip(work / "weights")
        return Made(_pixels(loaded.processor, work))

    def prepare(work: Path) -> None:
        write_clip(work / "weights", clip_weights())

    return Side(prepare, make)


SIDES: Mapping[str, Side] = {
    "umit": _qwen("umit"),
    "chexone": _qwen("chexone"),
    "lingshu": _qwen("lingshu"),
    "qwen3-vl": clips_side(capped=False),
    "qwen3-vl-capped": clips_side(capped=True),
    "medgemma": _medgemma(),
    "llava-med": _llava_med(),
    "medrega": _medrega(),
    "ming": _ming(),
    "uni-med": _uni_med(),
    "biomedclip": _biomedclip(),
    **TILED,
}
