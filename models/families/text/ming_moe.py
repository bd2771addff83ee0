"""MING-MOE: Qwen1.5 with a mixture of LoRA experts on the MLP's three linear layers and plain LoRA on attention.

Written from MediaBrain-SJTU/MING ``ming/model/utils.py`` (``MoLoRALinear.molora_helper``) and ``builder.py``. A folder
holds what its authors publish, beside the base model in ``base/``:

    adapter_config.json, adapter_model.safetensors     plain LoRA on attention (peft), merged at load
    config.json                                        num_experts, num_experts_per_token, expert_selection, ...
    non_lora_trainables.safetensors                    the experts and their switches
    base/                                              the Qwen1.5 chat model and its tokenizer

They publish the experts as ``non_lora_trainables.bin``, a pickle, which is never opened here: a site converts it once,
where it trusts it (docs/models.md).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models.networks.uni_med_language import quiet_peft
from models.weight_loading.verified import check_keys
from pipeline.errors import ConfigurationError, StopRun

BASE_FOLDER, EXPERTS_FILE = "base", "non_lora_trainables.safetensors"
ADAPTER_FILE, ADAPTER_WEIGHTS, CONFIG_FILE = "adapter_config.json", "adapter_model.safetensors", "config.json"
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """Shape of the mixture; the defaults are those of the published loader for a folder that does not say."""

    rank: int
    alpha: float
    experts: int = 4
    per_token: int = 2
    rank_stabilised: bool = False

    @property
    def scaling(self) -> float:
        """What an expert's output is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class ExpertLinear(nn.Module):
    """A frozen linear layer plus the experts that a linear switch picks for each token.

    The weights of the picked ones are the softmax over their own logits alone.
    """

    def __init__(self, base: nn.Linear, config: ExpertConfig) -> None:
        """Wrap ``base``; experts and switch start as zeros and are loaded."""
        super().__init__()
        self.base, self.config = base, config
        self.switch = nn.Linear(base.in_features, config.experts)
        self.experts = nn.ModuleList(
            nn.ModuleDict(
                {
                    f"lora_A_{index}": nn.Linear(base.in_features, config.rank, bias=False),
                    f"lora_B_{index}": nn.Linear(config.rank, base.out_features, bias=False),
                }
            )
            for index in range(config.experts)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [..., in] to [..., out]."""
        best, chosen = self.switch(tokens).topk(self.config.per_token, dim=-1)
        share = torch.zeros(*tokens.shape[:-1], self.config.experts, dtype=tokens.dtype, device=tokens.device)
        share = share.scatter(-1, chosen, functional.softmax(best, dim=-1))
        result: Tensor = self.base(tokens)
        for index, expert in enumerate(self.experts):
            inner = expert[f"lora_B_{index}"](expert[f"lora_A_{index}"](tokens))  # type: ignore[index]
            result = result + share[..., index, None] * inner * self.config.scaling
        return result


def read_expert_config(folder: Path) -> ExpertConfig:
    """The mixture of a folder. Raises ConfigurationError for an arrangement that this code does not compute."""
    try:
        adapter: dict[str, Any] = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
        stored: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        rank, alpha = int(adapter["r"]), float(adapter["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"{folder} is no MING-MOE folder ({type(error).__name__}): see docs/models.md for what it holds"
        )
        raise ConfigurationError("weights-folder", message) from None
    if stored.get("expert_selection", "top_k") != "top_k" or stored.get("share_expert", False):
        message = "this MING-MOE samples or shares its experts: no recipe repeats a sampled text, choose a top_k one"
        raise ConfigurationError("experts", message)
    return ExpertConfig(
        rank=rank,
        alpha=alpha,
        experts=int(stored.get("num_experts", 4)),
        per_token=int(stored.get("num_experts_per_token", 2)),
        rank_stabilised=bool(stored.get("use_rslora", False)),
    )


def with_experts(network: Any, folder: Path) -> Any:
    """``network``, the base model, with the attention LoRA merged and the experts in place.

    Raises ConfigurationError for a folder without the converted experts, StopRun for tensors that are not theirs.
    """
    config = read_expert_config(folder)
    if not (folder / EXPERTS_FILE).is_file():
        message = (
            f"{folder} lacks {EXPERTS_FILE}: the published non_lora_trainables.bin is a pickle and is not opened "
            "here; convert it once (docs/models.md)"
        )
        raise ConfigurationError("weights-folder", message)
    network = _merge_attention(network, folder)
    for layer in network.model.layers:
        for name in PROJECTIONS:
            setattr(layer.mlp, name, ExpertLinear(getattr(layer.mlp, name), config))
    found = {_own_name(name): tensor for name, tensor in load_file(folder / EXPERTS_FILE).items()}
    expected = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if ".experts." in name or ".switch." in name
    }
    check_keys(expected, found)
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise StopRun(
                "weights", f"{name} has another shape than this network's; they do not belong together"
            )
        tensor.copy_(found[name])
    return network.eval()


def _merge_attention(network: Any, folder: Path) -> Any:
    from peft import PeftModel, get_peft_model_state_dict

    try:
        held = load_file(folder / ADAPTER_WEIGHTS)
        with quiet_peft():
            adapted = PeftModel.from_pretrained(network, str(folder))
    except Exception as error:  # noqa: BLE001 - peft and safetensors raise classes of their own
        raise StopRun("weights", f"the attention LoRA cannot be loaded ({type(error).__name__})") from None
    check_keys(get_peft_model_state_dict(adapted), held)
    return adapted.merge_and_unload()


def _own_name(name: str) -> str:
    """A trainer's name of a tensor as the network has it: DeepSpeed and peft put words in front."""
    while name.startswith(("base_model.", "model.model.")):
        name = (
            name.removeprefix("base_model.")
            if name.startswith("base_model.")
            else name.removeprefix("model.")
        )
    return name
