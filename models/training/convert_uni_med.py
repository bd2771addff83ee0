"""A Uni-Med checkpoint of its authors' trainer as a folder of ours.

``python -m models.training.convert_uni_med --checkpoint FILE --tower FILE --language DIR --out DIR``

Their trainer (tsinghua-msiip/Uni-Med ``runner_base.py``) writes a pickle of what it trained: connector, router, task
tokens and LoRA. The tower is frozen and stands in ``eva_vit_g.pth``; the norm behind it is neither trained nor loaded
there, so it stays as torch makes it. Pickles are never opened here: both files are made safetensors before, on a
machine that holds nothing else of yours (docs/models.md). Nothing is computed: tensors are renamed, turned and stacked.
"""

import argparse
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.networks.connector import RouterMethod, RouterType
from models.networks.eva_vit import EvaConfig
from models.networks.uni_med import (
    ADAPTER_FOLDER,
    LANGUAGE_FOLDER,
    TASKS,
    Projector,
    Resample,
    UniMedConfig,
    UniMedEncoder,
)
from models.networks.uni_med_language import ADAPTER_WEIGHTS, load_language
from models.weight_loading.verified import check_keys
from pipeline.errors import ConfigurationError, StopRun

EXPERTS, PROJECTION, ROUTER, LANGUAGE = "moe_layers.", "llm_proj.", "router.", "llm_model."
_LORA = re.compile(r"llm_model\.(base_model\.model\..+\.(\w+)\.lora_[AB])\.default\.weight")
_STORED_TWICE = re.compile(r"llm_proj\.\d+\.\d+\.")
"""The experts again: their module is registered under two names."""


@dataclass(frozen=True, slots=True)
class TrainedAs:
    """What their configuration says and no tensor shows; the defaults are those of ``train_configs/uni_med.yaml``."""

    router_type: RouterType = "soft"
    resample: Resample = "projection"
    lora_alpha: int = 16
    heads: int = 16


def convert(checkpoint: Path, tower: Path, language: Path, out: Path, trained: TrainedAs) -> UniMedConfig:
    """Write the folder ``out`` and open it once; returns its configuration.

    Raises ConfigurationError for a checkpoint that was trained in a way that this folder cannot hold, StopRun for files
    that are unsound or do not belong together.
    """
    theirs = {name: one for name, one in _read(checkpoint).items() if not _STORED_TWICE.match(name)}
    eyes = {name.removeprefix("visual_encoder."): one for name, one in _read(tower).items()}
    lora: dict[re.Match[str], Tensor] = {}
    for name, one in theirs.items():
        if match := _LORA.fullmatch(name):
            lora[match] = one
    if whole := [name for name in theirs if name.startswith(LANGUAGE) and ".lora_" not in name
                 and not name.endswith("rotary_emb.inv_freq")]:  # fmt: skip
        message = (
            f"the checkpoint holds the language model itself ({whole[0]}), not a LoRA on it: save it as a Llama folder "
            "with save_pretrained and give that as --language"
        )
        raise ConfigurationError("uni-med-checkpoint", message)
    config = _config(theirs, eyes, lora, trained)
    network = UniMedEncoder(config)
    expected = network.state_dict()
    found = {f"tower.{name}": one for name, one in eyes.items() if f"tower.{name}" in expected}
    found |= {f"final_norm.{part}": theirs.get(f"ln_vision.{part}", expected[f"final_norm.{part}"])
              for part in ("weight", "bias")}  # fmt: skip
    found |= {f"connector.{name}": one for name, one in _connector(theirs, config).items()}
    check_keys(expected, found)
    if wrong := [name for name in expected if expected[name].shape != found[name].shape]:
        raise StopRun(
            "weights", f"{wrong[0]} has another shape than this network's: the files do not belong together"
        )
    network.load_state_dict({name: one.float() for name, one in found.items()})
    network.save(out)
    if language.resolve() != (out / LANGUAGE_FOLDER).resolve():
        shutil.copytree(language, out / LANGUAGE_FOLDER, dirs_exist_ok=True)
    _write_adapter(lora, config, out / ADAPTER_FOLDER)
    load_language(out)  # the LoRA is this language model's, tensor by tensor
    return config


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        message = f"{path.name} is not a safetensors file: pickles are never opened here (docs/models.md converts one)"
        raise ConfigurationError("pickled-weights", message)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StopRun(
            "weights", f"{path.name} cannot be read ({type(error).__name__}): convert it again"
        ) from None


def _config(
    theirs: Mapping[str, Tensor],
    eyes: Mapping[str, Tensor],
    lora: Mapping[re.Match[str], Tensor],
    trained: TrainedAs,
) -> UniMedConfig:
    """The shape that the tensors have. Raises ConfigurationError where they are not a Uni-Med's."""
    try:
        patches = eyes["patch_embed.proj.weight"]
        blocks = 1 + max(int(name.split(".")[1]) for name in eyes if name.startswith("blocks."))
        # eva_vit_g.pth holds one block more than the tower has (their create_eva_vit_g builds 39)
        blocks = min(blocks, EvaConfig().layers)
        grid = round((eyes["pos_embed"].shape[1] - 1) ** 0.5)
        vision = EvaConfig(
            image_size=grid * patches.shape[-1],
            patch=patches.shape[-1],
            width=patches.shape[0],
            layers=blocks,
            heads=trained.heads,
            feed_forward=eyes["blocks.0.mlp.fc1.weight"].shape[0],
        )
        ranks = {one.shape[0] for found, one in lora.items() if found[1].endswith("lora_A")}
        experts = {int(name.split(".")[1]) for name in theirs if name.startswith(EXPERTS)}
        shape = _mixture(theirs, len(experts), trained) if experts else _plain(theirs)
        shape |= {"lora_rank": ranks.pop()} if len(ranks) == 1 else {}
        return UniMedConfig(vision=vision, resample=trained.resample, lora_alpha=trained.lora_alpha, **shape)
    except (KeyError, IndexError, ValueError) as error:
        message = f"the files hold no Uni-Med as its authors save one ({type(error).__name__}: {error})"
        raise ConfigurationError("uni-med-checkpoint", message) from None


def _mixture(theirs: Mapping[str, Tensor], experts: int, trained: TrainedAs) -> dict[str, Any]:
    first = theirs[f"{EXPERTS}0.0.weight"]
    width, task = first.shape[1], theirs[f"task_tokens.{TASKS[0]}"].shape[-1]
    router = theirs[f"{ROUTER}fc1.weight"]
    seen: dict[int, RouterMethod] = {width + task: "task_token", width: "token"}
    if task != width:
        seen[task] = "task"
    return {
        "language_width": first.shape[0],
        "projector": "moe_mlp" if f"{EXPERTS}0.2.weight" in theirs else "moe_linear",
        "num_experts": experts,
        "router_type": trained.router_type,
        "router_method": seen[router.shape[1]],
        "router_hidden": router.shape[0],
        "task_width": task,
    }


def _plain(theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = sorted(name for name in theirs if name.startswith(PROJECTION) and name.endswith("weight"))
    kinds: dict[int, Projector] = {1: "linear", 2: "mlp2x_gelu", 3: "mlp3x_gelu"}
    return {"language_width": theirs[layers[-1]].shape[0], "projector": kinds[len(layers)]}


def _connector(theirs: Mapping[str, Tensor], config: UniMedConfig) -> dict[str, Tensor]:
    """Their connector under our names: experts side by side, inputs before outputs."""
    if not config.projector.startswith("moe_"):
        names = {name: name.removeprefix(PROJECTION) for name in theirs if name.startswith(PROJECTION)}
        alone = config.projector == "linear"
        return {f"layers.{'0.' if alone else ''}{ours}": theirs[name] for name, ours in names.items()}
    every = range(config.num_experts)
    found = {
        "expert_in": torch.cat([theirs[f"{EXPERTS}{one}.0.weight"].T for one in every], dim=1),
        "expert_in_bias": torch.cat([theirs[f"{EXPERTS}{one}.0.bias"] for one in every]),
        "task_tokens": torch.stack([theirs[f"task_tokens.{task}"].reshape(-1) for task in TASKS]),
    }
    if config.projector == "moe_mlp":
        found["expert_out"] = torch.stack([theirs[f"{EXPERTS}{one}.2.weight"].T for one in every])
        found["expert_out_bias"] = torch.stack([theirs[f"{EXPERTS}{one}.2.bias"] for one in every])
    if config.router_type in ("soft", "sparse"):
        for ours, part in (("0", "fc1"), ("2", "fc2")):
            found |= {
                f"router.{ours}.{kind}": theirs[f"{ROUTER}{part}.{kind}"] for kind in ("weight", "bias")
            }
    return found


def _write_adapter(lora: Mapping[re.Match[str], Tensor], config: UniMedConfig, folder: Path) -> None:
    """Their LoRA as peft saves one; nothing where the checkpoint has none."""
    from peft import LoraConfig

    if not lora:
        return
    folder.mkdir(parents=True, exist_ok=True)
    LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted({found[2] for found in lora}),
        bias="none",
        task_type="CAUSAL_LM",
    ).save_pretrained(str(folder))
    save_file(
        {f"{found[1]}.weight": one.contiguous() for found, one in lora.items()}, folder / ADAPTER_WEIGHTS
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    usual = TrainedAs()
    parser = argparse.ArgumentParser(
        description="A Uni-Med checkpoint of its authors' trainer as a folder of ours."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint_N as safetensors")
    parser.add_argument("--tower", type=Path, required=True, help="eva_vit_g as safetensors")
    parser.add_argument("--language", type=Path, required=True, help="the Llama-2 folder it was trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--router-type", choices=("soft", "hard", "constant", "sparse"), default=usual.router_type
    )
    parser.add_argument("--resample", choices=("projection", "avgpool", "maxpool"), default=usual.resample)
    parser.add_argument("--lora-alpha", type=int, default=usual.lora_alpha)
    asked = parser.parse_args(arguments)
    trained = TrainedAs(asked.router_type, asked.resample, asked.lora_alpha)
    config = convert(asked.checkpoint, asked.tower, asked.language, asked.out, trained)
    print(f"{asked.out}: {config.projector}, {config.num_experts} experts, LoRA of rank {config.lora_rank}")


if __name__ == "__main__":
    main()
