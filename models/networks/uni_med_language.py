"""The language model of a Uni-Med folder: Llama-2 with LoRA on every linear layer but the head."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.networks.uni_med import ADAPTER_FOLDER, LANGUAGE_FOLDER, UniMedConfig
from models.weight_loading.memory import Precision
from models.weight_loading.piece_file import open_tokenizer
from models.weight_loading.placement import Placing
from models.weight_loading.tensors import load_placed
from models.weight_loading.verified import check_keys
from pipeline.errors import StopRun

ADAPTER_WEIGHTS = "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

TRAINED = Placing("cpu", torch.float32, Precision.FP32)
"""How the network is loaded to be trained."""


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep peft's own warnings down: a name it uses is deprecated, and missing keys are checked here anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        yield


def load_base(folder: Path, placing: Placing = TRAINED) -> tuple[Any, Any]:
    """The Llama network in evaluation mode and its tokenizer; without ``placing`` in float32 on the CPU, to be trained.

    Raises StopRun for unsound weights.
    """
    from transformers import LlamaForCausalLM

    path = folder / LANGUAGE_FOLDER
    try:
        network, report = load_placed(LlamaForCausalLM, path, placing)
        tokenizer = open_tokenizer(path)
    except (OSError, ValueError, KeyError) as error:
        message = f"{LANGUAGE_FOLDER} is not a Llama folder in transformers format ({type(error).__name__})"
        raise StopRun("weights", message) from None
    for word in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = [str(name) for name in report[word] if not str(name).endswith("rotary_emb.inv_freq")]
        if names:
            raise StopRun(
                "weights", f"{len(names)} tensors {word.removesuffix('_keys')} in {LANGUAGE_FOLDER}"
            )
    return placing.put(network).eval(), tokenizer


def with_new_adapter(network: Any, config: UniMedConfig) -> Any:
    """``network`` with a fresh LoRA that is trained, the rest frozen."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(TARGETS),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with quiet_peft():
        return get_peft_model(network, settings)


def load_adapter(network: Any, folder: Path, *, trainable: bool = False) -> Any:
    """``network`` with the LoRA of a folder's ``adapter/``. Raises StopRun when its tensors are not this network's."""
    from peft import PeftModel, get_peft_model_state_dict

    path = folder / ADAPTER_FOLDER
    try:
        found = load_file(path / ADAPTER_WEIGHTS)
        with quiet_peft():
            adapted = PeftModel.from_pretrained(network, str(path), is_trainable=trainable)
    except Exception as error:  # noqa: BLE001 - peft and safetensors raise classes of their own
        raise StopRun(
            "weights", f"{ADAPTER_FOLDER} is not a LoRA of this model ({type(error).__name__})"
        ) from None
    check_keys(get_peft_model_state_dict(adapted), found)
    return adapted


def load_language(folder: Path, placing: Placing = TRAINED) -> tuple[Any, Any]:
    """Network, its LoRA merged where the folder has one, and tokenizer; ``placing`` as in ``load_base``.

    Over matrices in 8 or 4 bits the LoRA stays apart: merged, its numbers would be rounded with them.
    """
    network, tokenizer = load_base(folder, placing)
    if (folder / ADAPTER_FOLDER).is_dir():
        network = load_adapter(network, folder)
        if not placing.reduced:
            network = network.merge_and_unload()
    return network.eval(), tokenizer
