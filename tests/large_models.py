"""Folders of the native families in their published layout with random weights of some hundred MB, for measurements.

Made from the small ones of the tests: the same tokenizers, processors and layouts. Weights are stored in bfloat16 as
most authors publish them (BiomedCLIP and Uni-Med in float32), and the towers have the share of the whole that
real ones have, about a tenth; BiomedCLIP has its published size.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from models.families.text.ming_moe import EXPERTS_FILE, PROJECTIONS
from models.networks.uni_med import ADAPTER_FOLDER, LANGUAGE_FOLDER, UniMedEncoder
from models.networks.uni_med_language import quiet_peft, with_new_adapter
from tests.plain_internvl import chat_config, chat_weights, save_chat
from tests.tiny_chat import build_tokenizer, write_chat_model
from tests.tiny_clip import clip_config, clip_weights, write_clip
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model
from tests.tiny_uni_med import CONFIG, write_uni_med

TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
VISION = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 8}
QWEN_VISION = {"depth": 4, "embed_dim": 512, "hidden_size": 1024, "num_heads": 8, "mlp_ratio": 3}
QWEN25_VISION = {
    "depth": 4,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_heads": 8,
    "out_hidden_size": 1024,
    "fullatt_block_indexes": [1, 3],
}
LORA = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class Large:
    """A family of the catalogue and how its folder is written, small or large."""

    name: str
    catalogue_id: str
    write: Callable[[Path, bool], object]


def enlarge(folder: Path, class_name: str, **sizes: Mapping[str, Any]) -> None:
    """Put a larger random network of ``class_name`` into ``folder``, in bfloat16.

    ``sizes`` are changes of a part of its configuration ("text_config", "vision_config") or, as "whole", of itself.
    """
    network_class: Any = getattr(transformers, class_name)
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part, values in sizes.items():
        changed = stored if part == "whole" else stored[part]
        changed.pop("layer_types", None)
        changed.update(values)
    torch.manual_seed(1)
    network = network_class(network_class.config_class(**stored)).to(torch.bfloat16)
    network.save_pretrained(folder)


def write_text(folder: Path, kind: str, class_name: str, large: bool) -> None:
    write_text_model(folder, kind)
    if large:
        enlarge(folder, class_name, whole=TEXT)


def write_ming_moe(folder: Path, large: bool) -> None:
    """MING-MOE: a Qwen1.5 base, LoRA on attention and four experts of rank 16 on every MLP layer."""
    write_text(folder / "base", "qwen2", "Qwen2ForCausalLM", large)
    write_adapter(folder, folder / "base", "Qwen2ForCausalLM")
    stored = json.loads((folder / "base" / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    width, inner = stored["hidden_size"], stored["intermediate_size"]
    experts: dict[str, Any] = {}
    for layer in range(stored["num_hidden_layers"]):
        for name in PROJECTIONS:
            into, out = (inner, width) if name == "down_proj" else (width, inner)
            start = f"base_model.model.model.layers.{layer}.mlp.{name}"
            experts |= {
                f"{start}.switch.weight": torch.randn(4, into),
                f"{start}.switch.bias": torch.randn(4),
            }
            for index in range(4):
                experts[f"{start}.experts.{index}.lora_A_{index}.weight"] = torch.randn(16, into)
                experts[f"{start}.experts.{index}.lora_B_{index}.weight"] = torch.randn(out, 16)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in experts.items()}, folder / EXPERTS_FILE)


def write_adapter(folder: Path, base: Path, class_name: str) -> None:
    """A LoRA of rank 16 on the attention of ``base``."""
    network = getattr(transformers, class_name).from_pretrained(base, dtype=torch.bfloat16)
    settings = LoraConfig(r=16, lora_alpha=16, target_modules=list(LORA), init_lora_weights=False)
    with quiet_peft():
        get_peft_model(network, settings).save_pretrained(str(folder))


def write_medrega(folder: Path, large: bool) -> None:
    tokenizer = build_tokenizer("medrega")
    described = chat_config(len(tokenizer))
    if large:
        described["llm_config"] |= TEXT
        described["vision_config"] |= VISION
    weights = chat_weights(described)
    save_chat(folder, described, {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
    tokenizer.save_pretrained(folder)


def write_chat(folder: Path, kind: str, class_name: str, large: bool) -> None:
    write_chat_model(folder, kind)
    if large:
        enlarge(folder, class_name, text_config=TEXT, vision_config=VISION)


def write_qwen_vl(folder: Path, kind: str, class_name: str, large: bool) -> None:
    write_qwen(folder, kind)
    if large:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}
        vision = QWEN_VISION if kind == "qwen2-vl" else QWEN25_VISION
        enlarge(folder, class_name, text_config={**TEXT, "rope_parameters": rope}, vision_config=vision)


def write_umit_lora(folder: Path, large: bool) -> None:
    """UMIT as adapter and base."""
    base = folder / "base"
    write_qwen_vl(base, "qwen2-vl", "Qwen2VLForConditionalGeneration", large)
    write_adapter(folder, base, "Qwen2VLForConditionalGeneration")


def write_uni_med_folder(folder: Path, large: bool) -> None:
    write_uni_med(folder)
    if not large:
        return
    vision = replace(CONFIG.vision, width=512, layers=6, heads=8, feed_forward=2048)
    shape = replace(CONFIG, vision=vision, language_width=1024, router_hidden=512)
    UniMedEncoder(shape).save(folder)
    language = folder / LANGUAGE_FOLDER
    enlarge(language, "LlamaForCausalLM", whole={**TEXT, "num_key_value_heads": 16})
    shutil.rmtree(folder / ADAPTER_FOLDER)
    network = transformers.LlamaForCausalLM.from_pretrained(language, dtype=torch.float32)
    with_new_adapter(network, shape).save_pretrained(folder / ADAPTER_FOLDER)


def write_biomedclip(folder: Path, large: bool) -> None:
    if large:
        weights = clip_weights(224, 768, 12, 512, inner=(3072, 3072), words=30_522, scale=0.02)
        write_clip(folder, weights, clip_config(224, 512))
    else:
        write_clip(folder, clip_weights())


FAMILIES = (
    Large("text (Llama)", "text-llm", lambda f, large: write_text(f, "llama", "LlamaForCausalLM", large)),
    Large("MING-MOE", "ming-moe", write_ming_moe),
    Large("MedRegA", "medrega", write_medrega),
    Large(
        "LLaVA-Med",
        "llava-med",
        lambda f, large: write_chat(f, "llava-med", "LlavaForConditionalGeneration", large),
    ),
    Large(
        "MedGemma",
        "medgemma-4b-it",
        lambda f, large: write_chat(f, "medgemma", "Gemma3ForConditionalGeneration", large),
    ),
    Large(
        "UMIT",
        "umit",
        lambda f, large: write_qwen_vl(f, "qwen2-vl", "Qwen2VLForConditionalGeneration", large),
    ),
    Large("UMIT, LoRA", "umit", write_umit_lora),
    Large(
        "Lingshu",
        "lingshu-7b",
        lambda f, large: write_qwen_vl(f, "qwen2.5-vl", "Qwen2_5_VLForConditionalGeneration", large),
    ),
    Large("Uni-Med", "uni-med", write_uni_med_folder),
    Large("BiomedCLIP", "biomedclip", write_biomedclip),
)
