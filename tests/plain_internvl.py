"""A plain reading of InternVL-Chat-V1-2's published arithmetic, on its published tensor names; and a small one."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

SIDE, PATCH, WIDTH, HEADS, LAYERS, LANGUAGE = 84, 14, 40, 5, 3, 32
GRID = SIDE // PATCH
TOKENS = (GRID // 2) ** 2


def chat_config(vocabulary: int, **changed: Any) -> dict[str, Any]:
    """The published ``config.json`` of a small network."""
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "select_layer": -1,
        "force_image_size": SIDE,
        "downsample_ratio": 0.5,
        "template": "Hermes-2",
        "ps_version": "v1",
        "dynamic_image_size": False,
        "pad2square": False,
        "vision_config": {
            "model_type": "intern_vit_6b",
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "intermediate_size": 80,
            "image_size": SIDE,
            "patch_size": PATCH,
            "qkv_bias": False,
            "qk_normalization": True,
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu",
        },
        "llm_config": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": vocabulary,
            "hidden_size": LANGUAGE,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_theta": 5000000.0,
            "rms_norm_eps": 1e-5,
            "bos_token_id": 1,
            "eos_token_id": 7,
            "tie_word_embeddings": False,
        },
        **changed,
    }


def chat_weights(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under their published names."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 0.2) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    vision, language = config["vision_config"], config["llm_config"]["hidden_size"]
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    names = {
        "vision_model.embeddings.class_embedding": random(1, 1, width),
        "vision_model.embeddings.patch_embedding.weight": random(width, 3, PATCH, PATCH, scale=0.05),
        "vision_model.embeddings.patch_embedding.bias": random(width),
        "vision_model.embeddings.position_embedding": random(1, GRID * GRID + 1, width, scale=0.5),
        "mlp1.0.weight": 1 + random(4 * width),
        "mlp1.0.bias": random(4 * width),
        "mlp1.1.weight": random(language, 4 * width),
        "mlp1.1.bias": random(language),
        "mlp1.3.weight": random(language, language),
        "mlp1.3.bias": random(language),
    }
    for layer in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{layer}"
        names |= {
            f"{at}.{one}.weight": 1 + random(width)
            for one in ("norm1", "norm2", "attn.q_norm", "attn.k_norm")
        }
        names |= {f"{at}.{one}": random(width, scale=0.5) for one in ("ls1", "ls2")}
        names |= {
            f"{at}.attn.qkv.weight": random(3 * width, width),
            f"{at}.attn.proj.weight": random(width, width),
            f"{at}.attn.proj.bias": random(width),
            f"{at}.mlp.fc1.weight": random(inner, width),
            f"{at}.mlp.fc1.bias": random(inner),
            f"{at}.mlp.fc2.weight": random(width, inner),
            f"{at}.mlp.fc2.bias": random(width),
        }
    for name, value in llama(config).state_dict().items():
        wide = value.dim() > 1
        names[f"language_model.{name}"] = (
            random(*value.shape, scale=0.3) if wide else 1 + random(*value.shape)
        )
    return names


def save_chat(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    """Save as published: config.json, two safetensors shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    names = sorted(weights)
    placed: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        path = folder / f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name].contiguous() for name in part}, path)
        placed |= dict.fromkeys(part, path.name)
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def llama(config: dict[str, Any]) -> Any:
    """The language model of the published configuration."""
    return LlamaForCausalLM(LlamaConfig(**config["llm_config"])).eval()


def rms(values: Tensor, weight: Tensor) -> Tensor:
    """Root mean square norm."""
    return weight * values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6)


def tower(weights: dict[str, Tensor], pixels: Tensor, layers: int) -> Tensor:
    """[n, 1 + tokens, width] after ``layers`` layers, class token first."""
    n = len(pixels)
    at = "vision_model.embeddings"
    patches = functional.conv2d(
        pixels, weights[f"{at}.patch_embedding.weight"], weights[f"{at}.patch_embedding.bias"], stride=PATCH
    )
    rows = patches.flatten(2).transpose(1, 2)
    x = (
        torch.cat([weights[f"{at}.class_embedding"].expand(n, -1, -1), rows], 1)
        + weights[f"{at}.position_embedding"]
    )
    for layer in range(layers):
        at = f"vision_model.encoder.layers.{layer}"
        given = rms(x, weights[f"{at}.norm1.weight"])
        query, key, value = (given @ weights[f"{at}.attn.qkv.weight"].T).split(WIDTH, -1)
        query = rms(query, weights[f"{at}.attn.q_norm.weight"])
        key = rms(key, weights[f"{at}.attn.k_norm.weight"])
        heads = [one.reshape(n, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for one in (query, key, value)]
        scores = heads[0] @ heads[1].transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        mixed = (scores.softmax(-1) @ heads[2]).transpose(1, 2).reshape(n, -1, WIDTH)
        mixed = mixed @ weights[f"{at}.attn.proj.weight"].T + weights[f"{at}.attn.proj.bias"]
        x = x + mixed * weights[f"{at}.ls1"]
        given = rms(x, weights[f"{at}.norm2.weight"])
        inner = functional.gelu(given @ weights[f"{at}.mlp.fc1.weight"].T + weights[f"{at}.mlp.fc1.bias"])
        x = (
            x
            + (inner @ weights[f"{at}.mlp.fc2.weight"].T + weights[f"{at}.mlp.fc2.bias"])
            * weights[f"{at}.ls2"]
        )
    return x


def features(weights: dict[str, Tensor], pixels: Tensor, layers: int, *, transposed: bool = True) -> Tensor:
    """[n, tokens, language width]: four neighbouring tokens joined, then the projector.

    A joined token holds its four in reading order. ``transposed`` lists the joined tokens column by column.
    """
    n = len(pixels)
    grid = tower(weights, pixels, layers)[:, 1:].reshape(n, GRID, GRID, WIDTH)
    half = GRID // 2
    places = [(row, column) for row in range(half) for column in range(half)]
    if transposed:
        places = [(row, column) for column in range(half) for row in range(half)]
    joined = torch.stack(
        [
            torch.cat(
                [grid[:, 2 * row + down, 2 * column + right] for down in (0, 1) for right in (0, 1)], dim=-1
            )
            for row, column in places
        ],
        dim=1,
    )
    given = functional.layer_norm(joined, joined.shape[-1:], weights["mlp1.0.weight"], weights["mlp1.0.bias"])
    inner = functional.gelu(given @ weights["mlp1.1.weight"].T + weights["mlp1.1.bias"])
    return inner @ weights["mlp1.3.weight"].T + weights["mlp1.3.bias"]


def logits(
    config: dict[str, Any],
    weights: dict[str, Tensor],
    ids: Tensor,
    pixels: Tensor,
    image_token: int,
    layers: int,
) -> Tensor:
    """[1, length, vocabulary] of one prompt whose image tokens are replaced by the image's features."""
    network = llama(config)
    network.load_state_dict(
        {n.removeprefix("language_model."): v for n, v in weights.items() if n.startswith("language_model.")}
    )
    embeds = network.get_input_embeddings()(ids).clone()
    embeds[ids == image_token] = features(weights, pixels, layers).reshape(-1, LANGUAGE)
    logits: Tensor = network(inputs_embeds=embeds).logits
    return logits
