"""Small Qwen2-VL, Qwen2.5-VL and Qwen3-VL networks with random weights and the real marks, as published."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CORPUS = (
    "You are a helpful assistant. Please review the chest X-ray image and generate a report.",
    "Given this image, choose one option from: 1:Liver 2:Stomach to answer the question: Findings: Impression:",
    "根据给定的图像, 请简洁回答问题：",
)


def build_tokenizer() -> Any:
    """A byte-level tokenizer with Qwen's marks."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def build_network(kind: str, tokenizer: Any) -> Any:
    """The network of ``kind``, "qwen2-vl", "qwen2.5-vl" (one block sees the whole image), "qwen3-vl" or its "-moe"."""
    torch.manual_seed(7)
    number = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": number("<|im_end|>"),
    }
    ids = {
        "image_token_id": number("<|image_pad|>"),
        "video_token_id": number("<|video_pad|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "vision_end_token_id": number("<|vision_end|>"),
        "tie_word_embeddings": False,
    }
    if kind == "qwen2-vl":
        vision: dict[str, Any] = {
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
        }
        config: Any = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
        network: Any = transformers.Qwen2VLForConditionalGeneration(config)
    elif kind in ("qwen3-vl", "qwen3-vl-moe"):
        vision = {
            "depth": 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 49,
            "deepstack_visual_indexes": [2, 0],
        }
        text |= {"head_dim": 16, "num_hidden_layers": 3}
        text["rope_parameters"] = {
            "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True,
        }  # fmt: skip
        if kind == "qwen3-vl-moe":
            text |= {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
            config = transformers.Qwen3VLMoeConfig(text_config=text, vision_config=vision, **ids)
            network = transformers.Qwen3VLMoeForConditionalGeneration(config)
        else:
            config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
            network = transformers.Qwen3VLForConditionalGeneration(config)
    else:
        vision = {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        }
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        network = transformers.Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(8)
    return network.eval()


def write_qwen(folder: Path, kind: str, most_pixels: int = 20_000) -> Path:
    """Save network, tokenizer and preprocessing of ``kind``; gives the folder."""
    tokenizer = build_tokenizer()
    build_network(kind, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 56 * 56, "longest_edge": most_pixels}
    own: dict[str, Any] = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor: Any = transformers.Qwen2VLImageProcessorPil
    processor(size=size, **(own if kind.startswith("qwen3-vl") else {})).save_pretrained(folder)
    return folder
