"""EVA-CLIP's plain vision transformer, the tower of BLIP-2, MiniGPT-v2 and Uni-Med.

Differs from CLIP's: queries and values have a bias and keys have none, absolute positions, no norm before or after
the blocks (the norm that follows belongs to the model around it). Shape and arithmetic as in Uni-Med's
``uni_med/models/eva_vit.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import StopRun


@dataclass(frozen=True, slots=True)
class EvaConfig:
    """Shape of the tower; the defaults are ViT-G/14 at 224 pixels, 1.0 billion parameters.

    ``norm_eps`` is that of the blocks, ``final_norm_eps`` of the norm behind them (LAVIS leaves torch's default there,
    transformers' BLIP-2 takes 1e-6).
    """

    image_size: int = 224
    patch: int = 14
    width: int = 1408
    layers: int = 39
    heads: int = 16
    feed_forward: int = 6144
    norm_eps: float = 1e-6
    final_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that does not divide."""
        if self.image_size % self.patch or self.width % self.heads:
            raise ValueError("patch has to divide image_size, and heads the width")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch


class EvaAttention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, config: EvaConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, t, width] to the same shape."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        mixed = functional.linear(tokens, self.qkv.weight, bias)
        mixed = mixed.reshape(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        projected: Tensor = self.proj(attended)
        return projected


class EvaMlp(nn.Module):
    """The feed-forward part of a block."""

    def __init__(self, config: EvaConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.feed_forward)
        self.fc2 = nn.Linear(config.feed_forward, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, t, width] to the same shape."""
        fed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return fed


class EvaBlock(nn.Module):
    """Pre-norm attention and feed-forward; names as in the published checkpoint."""

    def __init__(self, config: EvaConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = EvaAttention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = EvaMlp(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, t, width] to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        fed: Tensor = self.mlp(self.norm2(tokens))
        return tokens + fed


class PatchEmbedding(nn.Module):
    """One token per patch, row by row."""

    def __init__(self, config: EvaConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, config.patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, s, s] to [n, patches, width]."""
        patches: Tensor = self.proj(pixels)
        return patches.flatten(2).transpose(1, 2)


class EvaTower(nn.Module):
    """Pixels in, one token per patch and the class token in front out."""

    def __init__(self, config: EvaConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, config.grid**2 + 1, config.width) * 0.02)
        self.blocks = nn.ModuleList(EvaBlock(config) for _ in range(config.layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [n, 3, image_size, image_size] to tokens [n, 1 + grid * grid, width]."""
        patches = self.patch_embed(pixels)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


_FROM_BLIP2 = (
    ("embeddings.class_embedding", "tower.cls_token"),
    ("embeddings.position_embedding", "tower.pos_embed"),
    ("embeddings.patch_embedding.", "tower.patch_embed.proj."),
    ("encoder.layers.", "tower.blocks."),
    (".self_attn.qkv.weight", ".attn.qkv.weight"),
    (".self_attn.projection.", ".attn.proj."),
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    ("post_layernorm.", "final_norm."),
)


def from_blip2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights named as in transformers' ``Blip2VisionModel`` under the names of ``tower`` and ``final_norm``.

    Blip2ForConditionalGeneration's ``vision_model.`` in front is taken off. Raises StopRun for a checkpoint whose keys
    have a bias: this tower has none.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        short = name.removeprefix("model.").removeprefix("vision_model.")
        if short.endswith(".self_attn.qkv.bias"):
            query, key, value = tensor.chunk(3)
            if key.any():
                raise StopRun("weights", "the keys of this vision tower have a bias: it is not EVA-CLIP's")
            block = short.replace("encoder.layers.", "tower.blocks.").removesuffix(".self_attn.qkv.bias")
            found[f"{block}.attn.q_bias"], found[f"{block}.attn.v_bias"] = query.clone(), value.clone()
            continue
        for theirs, ours in _FROM_BLIP2:
            short = short.replace(theirs, ours)
        found[short] = tensor
    return found
