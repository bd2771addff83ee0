"""A Uni-Med small enough for a test, with random weights, saved as the family reads it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.networks.eva_vit import EvaConfig
from models.networks.uni_med import ADAPTER_FOLDER, LANGUAGE_FOLDER, UniMedConfig, UniMedEncoder
from models.networks.uni_med_language import with_new_adapter
from tests.tiny_text import build_tokenizer

WIDTH = 32
CONFIG = UniMedConfig(
    vision=EvaConfig(image_size=56, patch=14, width=24, layers=2, heads=2, feed_forward=40),
    language_width=WIDTH,
    router_hidden=16,
    max_new_tokens=16,
)


def build_encoder(seed: int = 0, **changes: Any) -> UniMedEncoder:
    """A random encoder; ``changes`` are fields of its configuration."""
    torch.manual_seed(seed)
    network = UniMedEncoder(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("q_bias", "v_bias")):
                parameter.normal_(0, 0.5)
            if "router" in name or name.endswith("task_tokens"):
                parameter.mul_(5)
    return network


def write_uni_med(folder: Path, seed: int = 0, *, adapter: bool = True) -> Path:
    """Write the whole folder: encoder, language model, tokenizer and a LoRA that is not zero."""
    torch.set_num_threads(1)
    encoder = build_encoder(seed)
    encoder.save(folder)
    tokenizer = build_tokenizer(eos="</s>")
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    network = LlamaForCausalLM(settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10 if parameter.dim() > 1 else 1)
    network.save_pretrained(folder / LANGUAGE_FOLDER)
    tokenizer.save_pretrained(folder / LANGUAGE_FOLDER)
    if adapter:
        adapted = with_new_adapter(network, encoder.config)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.5)
        adapted.save_pretrained(folder / ADAPTER_FOLDER)
    return folder
