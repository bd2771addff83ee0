"""Small MedRegA, InternVL3, LLaVA-Med and MedGemma: random weights, real marks, in their published formats."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
)

from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.plain_internvl import chat_config, chat_weights, later_config, save_chat

MARKS = {
    "medrega": (
        "<unk>",
        "<s>",
        "</s>",
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|im_sep|>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
        "<ref>",
        "</ref>",
        "<box>",
        "</box>",
    ),
    "internvl": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<unk>"),
    "radvlm": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>", "<unk>"),
    "llava-med": ("<unk>", "<s>", "</s>", "<image>", "<pad>"),
    "medgemma": (
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ),
}
CORPUS = (
    "Describe this X-ray. You are an expert radiologist. Please locate the region and describe the condition of",
    "You are a helpful medical assistant. Your task is report generation. Findings: Impression: [[102, 106, 481, 910]]",
    "Which of these does the image show: pneumonia, normal? Answer the question using a single word or phrase.",
    "你是一个医疗助手，你的任务是生成诊断报告。影像诊断：影像结论：请定位并描述这张医学影像中的",
)
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the marks of a family."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(MARKS[kind]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    names = {
        "medrega": {"bos_token": "<s>", "eos_token": "<|im_end|>"},
        "internvl": {"eos_token": "<|im_end|>"},
        "radvlm": {"eos_token": "<|im_end|>"},
        "llava-med": {"bos_token": "<s>", "eos_token": "</s>"},
        "medgemma": {"bos_token": "<bos>", "eos_token": "<eos>"},
    }[kind]
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **names)


def write_chat_model(folder: Path, kind: str) -> Path:
    """Save a small network of ``kind`` with tokenizer and preprocessing; gives the folder."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    tokenizer = build_tokenizer(kind)
    if kind in ("medrega", "internvl"):
        config = chat_config(len(tokenizer)) if kind == "medrega" else later_config(len(tokenizer))
        save_chat(folder, config, chat_weights(config, seed=5))
    else:
        network = {"llava-med": _llava, "radvlm": _onevision, "medgemma": _gemma}[kind](tokenizer)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.dim() > 1 and "embed" not in name:
                    parameter.mul_(3 if kind == "radvlm" else 8)
                if "mm_input_projection" in name:
                    parameter.normal_(std=0.5)  # transformers starts it at zero: no image would be seen
        network.save_pretrained(folder)
        _processor(kind).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kind == "radvlm":
        (folder / "chat_template.jinja").write_text(RADVLM_TEMPLATE)
    return folder


def text_shape(vocabulary: int) -> dict[str, Any]:
    """The language model of each: its sizes."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }


def _llava(tokenizer: Any) -> Any:
    return LlavaForConditionalGeneration(
        cast(Any, LlavaConfig)(
            vision_config={"model_type": "clip_vision_model", **VISION},
            text_config={"model_type": "mistral", "sliding_window": None, **text_shape(len(tokenizer))},
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            tie_word_embeddings=False,
        )
    ).eval()


GRIDS = [[rows * 56, columns * 56] for rows in (1, 2, 3) for columns in (1, 2, 3)]
RADVLM_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}{{'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""What the template of RadVLM's conversion writes of images and texts."""


def _onevision(tokenizer: Any) -> Any:
    return LlavaOnevisionForConditionalGeneration(
        cast(Any, LlavaOnevisionConfig)(
            vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
            text_config={"model_type": "qwen2", **text_shape(len(tokenizer))},
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=GRIDS,
            vision_aspect_ratio="anyres_max_4",
            tie_word_embeddings=False,
        )
    ).eval()


def _gemma(tokenizer: Any) -> Any:
    return Gemma3ForConditionalGeneration(
        cast(Any, Gemma3Config)(
            vision_config={"model_type": "siglip_vision_model", **VISION},
            text_config={
                **text_shape(len(tokenizer)),
                "head_dim": 8,
                "sliding_window": 16,
                "pad_token_id": 0,
            },
            mm_tokens_per_image=4,
            image_token_id=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
            boi_token_id=tokenizer.convert_tokens_to_ids("<start_of_image>"),
            eoi_token_id=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        )
    ).eval()


def _processor(kind: str) -> Any:
    side = VISION["image_size"]
    if kind == "llava-med":
        return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    if kind == "radvlm":
        return LlavaOnevisionImageProcessorPil(
            size={"height": side, "width": side},
            image_grid_pinpoints=GRIDS,
            image_mean=(0.5,) * 3,
            image_std=(0.5,) * 3,
        )
    return Gemma3ImageProcessorPil(size={"height": side, "width": side})


def chat_study(number: int, count: int = 1) -> ImageSet:
    """A study of ``count`` images of noise with odd sides, stored at twice the working size."""
    generator = np.random.default_rng(number)
    images = []
    for index in range(count):
        rows, columns = (int(side) for side in generator.integers(3, 19, 2))
        coarse = generator.random((rows, columns))
        pixels = np.kron(coarse, np.ones((11, 7))).astype(np.float32)
        ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.{index}")
        size = (2 * pixels.shape[0], 2 * pixels.shape[1])
        images.append(StudyImage(ref, 0, pixels, *size, None, "CR", "CHEST", "", "MONOCHROME2"))
    return ImageSet(f"1.2.{number}", tuple(images))
