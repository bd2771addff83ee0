"""Our side of the systems that cut a film into tiles: InternVL, Fleming-VL, Lingshu-I, RadVLM."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.catalog import show
from models.families.native.internvl import InternVLTiler, conversation, load_internvl
from models.families.native.internvl_words import FlemingWords, LingshuIWords
from models.families.native.onevision import load_onevision
from models.families.native.radvlm import RadVlmWords
from models.families.native.tiles import TiledFamily
from models.families.prompt_proof import tokens_of
from models.family import Request, Task
from pipeline.study import ImageSet, StudyImage
from tests.plain_internvl import chat_weights, later_config, save_chat
from tests.tiny_chat import VISION, build_tokenizer, text_shape
from tests.upstream.sides import SEEN, Made, Side, films, write_older_tokenizer

QUESTION = "Is there an effusion?"
LANGUAGES = {
    "LlamaForCausalLM": "Hermes-2",
    "Qwen2ForCausalLM": "internvl2_5",
    "InternLM2ForCausalLM": "internlm2-chat",
}
"""The language models under InternVL's tower, each in one of the conversations that it was trained on."""
LIMIT = 16
GRIDS = [[rows * 56, columns * 56] for rows in range(1, 7) for columns in range(1, 7)]
"""As the published ones, of tiles of 384 pixels."""
PUBLISHED = 448
FLEMING = {
    "crop_size": PUBLISHED, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
    "feature_extractor_type": "CLIPFeatureExtractor", "size": PUBLISHED,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
"""In the form of InternVL3's own preprocessor_config.json."""


def study_of(picture: Any) -> ImageSet:
    """A grey film as the path hands it to a family."""
    grey = np.asarray(picture.convert("L"), np.float32) / np.float32(255)
    rows, columns = grey.shape
    image = StudyImage(SEEN.ref, 0, grey, rows, columns, None, "DX", "CHEST", "PA", "MONOCHROME2")
    return ImageSet(SEEN.ref.study_instance_uid, (image,))


def written(family: TiledFamily, ids: list[int], values: Any) -> list[int]:
    """The tokens that the network writes greedily of a prompt and the features of its image."""
    end = int(family._loaded.tokenizer.convert_tokens_to_ids("<|im_end|>"))
    given = torch.tensor([ids])
    with torch.inference_mode():
        row = family._loaded.network.generate(
            input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=LIMIT, do_sample=False,
            eos_token_id=end, pad_token_id=end, **family._give([values], given),
        )[0, len(ids) :]  # fmt: skip
    return list(map(int, row))


def _internvl() -> Side:
    def prepare(work: Path) -> None:
        tokenizer = build_tokenizer("internvl")
        for number, (text, template) in enumerate(LANGUAGES.items()):
            config = later_config(len(tokenizer), text, template=template)
            if number == 0:  # one of them with the norms and the shuffle of V1-2
                config["vision_config"] |= {
                    "norm_type": "rms_norm",
                    "qkv_bias": False,
                    "qk_normalization": True,
                }
                config |= {"ps_version": "v1", "max_dynamic_patch": 6}
            folder = save_chat(work / text, config, chat_weights(config, seed=number))
            tokenizer.save_pretrained(folder)
            write_older_tokenizer(folder)
        (work / "asked.json").write_text(
            json.dumps({"languages": list(LANGUAGES), "question": QUESTION, "limit": LIMIT})
        )

    def make(work: Path) -> Made:
        arrays, ids = {}, {}
        entry = show("lingshu-i-8b")
        for text in LANGUAGES:
            folder = work / text
            family = TiledFamily(
                entry, load_internvl(folder, "fp32"), FlemingWords(), work / "cache", threads=1
            )
            prompt = conversation(folder).frame(f"<image>\n{QUESTION}")
            for name, picture in films(work).items():
                arrays[f"{text}-{name}"] = family._loaded.processor.cut(picture)
                (features,) = family.encode([study_of(picture)])
                arrays[f"features-{text}-{name}"] = features.arrays["features"]
                asked, values = family._insert(prompt, features, Request())
                ids[f"{text} {name}"] = tokens_of(family._loaded.tokenizer, asked)
                ids[f"greedy {text} {name}"] = written(family, ids[f"{text} {name}"], values)
        return Made(arrays, ids)

    return Side(prepare, make)


def _tokens_only(work: Path, asked: object) -> None:
    build_tokenizer("internvl").save_pretrained(work / "weights")
    write_older_tokenizer(work / "weights")
    (work / "asked.json").write_text(json.dumps(asked))


def _fleming() -> Side:
    def prepare(work: Path) -> None:
        _tokens_only(work, [QUESTION])
        (work / "weights" / "preprocessor_config.json").write_text(json.dumps(FLEMING))

    def make(work: Path) -> Made:
        words, tokenizer = FlemingWords(), build_tokenizer("internvl")
        text = words.word(Request(Task.VQA, question=QUESTION), [SEEN], "DX").replace(
            "<image>", image_text(1)
        )
        tiler = InternVLTiler(PUBLISHED)
        arrays = {name: tiler.cut(picture) for name, picture in films(work).items()}
        return Made(arrays, {QUESTION: tokens_of(tokenizer, text)}, {"new tokens": words.most_tokens})

    return Side(prepare, make)


def _lingshu_i() -> Side:
    asked = {
        "report": ("report", "", [], 2), "report of one film": ("report", "", [], 1),
        "question": ("open", QUESTION, [], 1), "options": ("choice", "Which is it?", ["A. mass", "B. nodule"], 1),
    }  # fmt: skip
    requests = {
        "report": (Request(), 2), "report of one film": (Request(), 1),
        "question": (Request(Task.VQA, question=QUESTION), 1),
        "options": (Request(Task.VQA, question="Which is it?", options=("mass", "nodule")), 1),
    }  # fmt: skip

    def make(work: Path) -> Made:
        words, tokenizer, tiler = (
            LingshuIWords(),
            build_tokenizer("internvl"),
            InternVLTiler(PUBLISHED, (1, 12)),
        )
        arrays = {name: tiler.cut(picture) for name, picture in films(work).items()}
        ids = {
            name: tokens_of(
                tokenizer, words.word(request, [SEEN] * count, "DX").replace("<image>", image_text(2))
            )
            for name, (request, count) in requests.items()
        }
        limits = {"new tokens": words.most_tokens, "images": show("lingshu-i-8b").images, "penalty": 1.0}
        return Made(arrays, ids, limits)

    return Side(lambda work: _tokens_only(work, asked), make)


def image_text(tokens: int) -> str:
    """What stands for one image of so many tokens."""
    return f"<img>{'<IMG_CONTEXT>' * tokens}</img>"


def _radvlm() -> Side:
    def prepare(work: Path) -> None:
        tokenizer = build_tokenizer("radvlm")
        tokenizer.save_pretrained(work / "weights")
        shape = {
            "vision": {"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
            "text": {"model_type": "qwen2", **text_shape(len(tokenizer))}, "grids": GRIDS, "limit": LIMIT,
            "question": QUESTION,
        }  # fmt: skip
        (work / "asked.json").write_text(json.dumps(shape))

    def make(work: Path) -> Made:
        loaded, words = load_onevision(work / "weights", "fp32"), RadVlmWords()
        family = TiledFamily(show("radvlm"), loaded, words, work / "cache", threads=1)
        arrays, ids = {}, {}
        for name, picture in films(work).items():
            arrays[name] = loaded.processor.cut(picture)
            (features,) = family.encode([study_of(picture)])
            arrays[f"features-{name}"] = features.arrays["features"]
            asked = words.word(Request(Task.VQA, question=QUESTION), [SEEN], "DX")
            text, values = family._insert(asked, features, Request())
            ids[name] = tokens_of(loaded.tokenizer, text)
            ids[f"greedy {name}"] = written(family, ids[name], values)
        return Made(arrays, ids, {"new tokens": words.most_tokens})

    return Side(prepare, make)


TILED = {"internvl": _internvl(), "fleming-vl": _fleming(), "lingshu-i": _lingshu_i(), "radvlm": _radvlm()}
"""By the name of the system."""
