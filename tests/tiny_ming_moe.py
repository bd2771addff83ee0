"""A small MING-MOE with random weights: a Qwen2, LoRA weights of its attention, and its experts."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from models.families.text.ming_moe import EXPERTS_FILE
from models.networks.uni_med_language import quiet_peft
from tests.tiny_text import write_text_model

RANK, ALPHA = 4, 8


def write_ming_moe(folder: Path) -> Path:
    """Save base, adapter and experts as published, the experts as safetensors; gives the folder."""
    write_text_model(folder / "base", "qwen2")
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    settings = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    with quiet_peft():
        adapted = get_peft_model(base, settings)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(str(folder))
    (folder / "config.json").write_text((folder / "base" / "config.json").read_text())
    experts = {}
    for layer in range(2):
        for name, (inner, outer) in {
            "gate_proj": (32, 64),
            "up_proj": (32, 64),
            "down_proj": (64, 32),
        }.items():
            start = f"base_model.model.model.layers.{layer}.mlp.{name}"
            experts[f"{start}.switch.weight"] = torch.randn(4, inner)
            experts[f"{start}.switch.bias"] = torch.randn(4)
            for index in range(4):
                experts[f"{start}.experts.{index}.lora_A_{index}.weight"] = torch.randn(RANK, inner) * 0.3
                experts[f"{start}.experts.{index}.lora_B_{index}.weight"] = torch.randn(outer, RANK) * 0.3
    save_file(experts, folder / EXPERTS_FILE)
    return folder
