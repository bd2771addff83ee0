"""Uni-Med: EVA-CLIP tower, four-token aggregation, connector mixture of experts, Llama-2 (arXiv 2409.17508).

Written from the published code (tsinghua-msiip/Uni-Med); no checkpoint was published, so the folder format is ours.

    config.json            shape of everything but the language model
    model.safetensors      ``tower.``, ``final_norm.`` and ``connector.`` tensors
    language/              a Llama folder in transformers format with its tokenizer
    adapter/               the LoRA on it (peft); absent once merged

In the published code ``hard`` and ``constant`` routing still build the router, of 508 million parameters, because two
conditions there are always true. Here they have none.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.networks.connector import Connector, ConnectorConfig, ExpertKind, RouterMethod, RouterType
from models.networks.eva_vit import EvaConfig, EvaTower, from_blip2
from models.weight_loading.verified import check_keys
from pipeline.errors import StopRun

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
LANGUAGE_FOLDER, ADAPTER_FOLDER = "language", "adapter"
TASKS = ("vqa", "refer", "identify", "caption", "cls")
"""Order of the task index. ``qa`` has no image and therefore no place among them."""
Resample = Literal["projection", "avgpool", "maxpool"]
Projector = Literal["moe_mlp", "moe_linear", "linear", "mlp2x_gelu", "mlp3x_gelu"]
POOL = 2


@dataclass(frozen=True, slots=True)
class UniMedConfig:
    """Everything that fixes the shape of the encoder; the defaults are the published ones.

    ``router_hidden`` 0 gives the published four times the router's input; ``task_width`` 0 gives the width of the
    aggregated visual token, as published. ``max_new_tokens`` is the limit of every answer.
    """

    vision: EvaConfig = field(default_factory=EvaConfig)
    language_width: int = 4096
    resample: Resample = "projection"
    resample_rate: int = 4
    projector: Projector = "moe_mlp"
    num_experts: int = 5
    router_type: RouterType = "soft"
    router_method: RouterMethod = "task_token"
    router_hidden: int = 0
    task_width: int = 0
    max_new_tokens: int = 100
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05

    def __post_init__(self) -> None:
        """Raise ValueError for an aggregation that does not divide the patches."""
        tokens = self.vision.grid**2
        if self.resample == "projection" and tokens % self.resample_rate:
            raise ValueError("resample_rate has to divide the number of patches")
        if self.resample != "projection" and (self.vision.grid % POOL or self.resample_rate != POOL**2):
            raise ValueError("pooling takes 2 x 2 patches: an even grid and a rate of 4")

    @property
    def token_width(self) -> int:
        """Width of an aggregated visual token: 5632 in the published shape."""
        return self.vision.width * (self.resample_rate if self.resample == "projection" else 1)

    @property
    def token_count(self) -> int:
        """Visual tokens per image: 64 in the published shape."""
        return int(self.vision.grid**2 // self.resample_rate)

    @property
    def connector(self) -> ConnectorConfig:
        """The connector's shape, for the two mixtures of experts."""
        width, task = self.token_width, self.task_width or self.token_width
        seen = {"task_token": width + task, "token": width, "task": task}[self.router_method]
        kind: ExpertKind = "mlp" if self.projector == "moe_mlp" else "linear"
        return ConnectorConfig(
            input_width=width,
            output_width=self.language_width,
            tasks=TASKS,
            num_experts=self.num_experts,
            expert_kind=kind,
            expert_hidden=self.language_width,
            router_type=self.router_type,
            router_method=self.router_method,
            router_hidden=self.router_hidden or 4 * seen,
            task_width=task,
        )

    def to_json(self) -> str:
        """The text of ``config.json``."""
        return json.dumps({"model_type": "uni-med", **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "UniMedConfig":
        """Read ``config.json``. Raises TypeError on unknown keys and ValueError on another model type."""
        stored: dict[str, Any] = json.loads(text)
        if stored.pop("model_type", None) != "uni-med":
            raise ValueError("config.json is not of a uni-med model")
        return cls(vision=EvaConfig(**stored.pop("vision")), **stored)


class Projection(nn.Module):
    """A connector without experts; the task is not looked at."""

    def __init__(self, config: UniMedConfig) -> None:
        """Build with random weights."""
        super().__init__()
        depth = {"linear": 1, "mlp2x_gelu": 2, "mlp3x_gelu": 3}[config.projector]
        layers: list[nn.Module] = [nn.Linear(config.token_width, config.language_width)]
        for _ in range(1, depth):
            layers += [nn.GELU(), nn.Linear(config.language_width, config.language_width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor, _task: Tensor) -> Tensor:
        """Tokens [n, t, token_width] to [n, t, language_width]."""
        projected: Tensor = self.layers(tokens)
        return projected


class UniMedEncoder(nn.Module):
    """Pixels and task in, embeddings for the language model out."""

    def __init__(self, config: UniMedConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.tower = EvaTower(config.vision)
        self.final_norm = nn.LayerNorm(config.vision.width, eps=config.vision.final_norm_eps)
        moe = config.projector.startswith("moe_")
        self.connector: nn.Module = Connector(config.connector) if moe else Projection(config)

    def aggregate(self, tokens: Tensor) -> Tensor:
        """Patch tokens [n, grid * grid, width], row by row, to [n, token_count, token_width].

        ``projection`` joins four tokens that follow one another in the raster: a strip of one row, not a square.
        """
        config = self.config
        if config.resample == "projection":
            return tokens.reshape(tokens.shape[0], config.token_count, config.token_width)
        side = config.vision.grid
        grid = tokens.transpose(1, 2).reshape(tokens.shape[0], config.token_width, side, side)
        pool = functional.avg_pool2d if config.resample == "avgpool" else functional.max_pool2d
        pooled: Tensor = pool(grid, POOL, POOL)
        return pooled.flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        """Normalised pixels [n, 3, s, s] and task indexes int64 [n] to [n, token_count, language_width]."""
        seen = self.final_norm(self.tower(pixels))[:, 1:]
        features: Tensor = self.connector(self.aggregate(seen), task)
        return features

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.config.to_json(), encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS_FILE
        )


def read_config(folder: Path) -> UniMedConfig:
    """The configuration of a folder. Raises StopRun when it is not of this network."""
    try:
        return UniMedConfig.from_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StopRun(
            "weights", f"{CONFIG_FILE} is not of a uni-med model ({type(error).__name__})"
        ) from None


def load_encoder(folder: Path) -> UniMedEncoder:
    """The encoder of a folder, in float32. Raises StopRun when tensors are missing, unexpected or of another shape."""
    config = read_config(folder)
    with torch.device("meta"):
        network = UniMedEncoder(config)
    try:
        found = load_file(folder / WEIGHTS_FILE)
    except Exception as error:  # noqa: BLE001 - safetensors raises a class of its own for every fault
        raise StopRun("weights", f"{WEIGHTS_FILE} cannot be read ({type(error).__name__})") from None
    _assign(network, found)
    return network.eval()


def _assign(network: nn.Module, found: dict[str, Tensor]) -> None:
    expected = network.state_dict()
    check_keys(expected, found)
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise StopRun(
                "weights", f"{name} has another shape than this network's; they do not belong together"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in found.items()}, assign=True)


def load_tower(network: UniMedEncoder, file: Path) -> None:
    """Fill tower and norm from a safetensors file named as transformers' ``Blip2VisionModel``.

    ``Salesforce/blip2-*`` hold the tower that Uni-Med freezes; tensors of BLIP-2's other parts are left out. Raises
    StopRun when the file lacks a tensor or holds one of the tower that this network does not have.
    """
    theirs = {
        name: tensor
        for name, tensor in load_file(file).items()
        if "vision_model." in name or name.startswith(("embeddings.", "encoder.layers.", "post_layernorm."))
    }
    found = from_blip2(theirs)
    expected = {
        name: value for name, value in network.state_dict().items() if not name.startswith("connector.")
    }
    check_keys(expected, found)
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise StopRun(
                "weights", f"{name} has another shape than this tower's; they do not belong together"
            )
        tensor.copy_(found[name])
