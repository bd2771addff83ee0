"""A plain reading of InternVL's published arithmetic, on its published tensor names; and small ones, V1-2 and V3."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SIDE, PATCH, WIDTH, HEADS, LAYERS, LANGUAGE = 84, 14, 40, 5, 3, 32
GRID = SIDE // PATCH
TOKENS = (GRID // 2) ** 2
QKV = ("q_proj", "k_proj", "v_proj")


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


def later_config(vocabulary: int, text: str = "Qwen2ForCausalLM", **changed: Any) -> dict[str, Any]:
    """The published ``config.json`` of a small InternVL3: layer norms, tiles, another language model."""
    config = chat_config(vocabulary)
    config["vision_config"] |= {
        "norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False, "drop_path_rate": 0.1,
    }  # fmt: skip
    kind = {"Qwen2ForCausalLM": "qwen2", "InternLM2ForCausalLM": "internlm2"}.get(text, "llama")
    config["llm_config"] |= {"architectures": [text], "model_type": kind, "rope_scaling": None}
    if kind == "internlm2":
        config["llm_config"] |= {"bias": False, "rope_scaling": {"factor": 2.0, "type": "dynamic"}}
    return config | {
        "template": "internvl2_5", "ps_version": "v2", "dynamic_image_size": True, "min_dynamic_patch": 1,
        "max_dynamic_patch": 12, "use_thumbnail": True, **changed,
    }  # fmt: skip


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
        normed = ("attn.q_norm", "attn.k_norm") if vision["qk_normalization"] else ()
        names |= {f"{at}.{one}.weight": 1 + random(width) for one in ("norm1", "norm2", *normed)}
        if vision.get("norm_type") == "layer_norm":
            names |= {f"{at}.{one}.bias": random(width) for one in ("norm1", "norm2")}
        if vision["qkv_bias"]:
            names[f"{at}.attn.qkv.bias"] = random(3 * width)
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
    return (
        internlm2(config, names) if "InternLM2ForCausalLM" in config["llm_config"]["architectures"] else names
    )


def internlm2(config: dict[str, Any], names: dict[str, Tensor]) -> dict[str, Tensor]:
    """The language model's tensors as InternLM2 names and joins them: the queries of a group, its key, its value."""
    text = config["llm_config"]
    keys, values = text["num_key_value_heads"], text["hidden_size"] // text["num_attention_heads"]
    other = {
        "embed_tokens": "tok_embeddings", "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm", "language_model.lm_head": "language_model.output",
    }  # fmt: skip
    made: dict[str, Tensor] = {}
    for name, value in names.items():
        if ".self_attn.q_proj." in name:
            rows = [names[name.replace("q_proj", one)].unflatten(0, (keys, -1, values)) for one in QKV]
            made[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(rows, 1).flatten(0, 2)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            for old, new in other.items():
                name = name.replace(old, new)
            made[name] = value
    return made


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
    settings = {name: value for name, value in config["llm_config"].items() if value is not None}
    if settings["architectures"] == ["Qwen2ForCausalLM"]:
        return Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
    settings = {name: value for name, value in settings.items() if name not in ("rope_scaling", "bias")}
    return LlamaForCausalLM(LlamaConfig(**settings)).eval()


def rms(values: Tensor, weight: Tensor) -> Tensor:
    """Root mean square norm."""
    return weight * values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6)


def normed(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """The norm ``name``: a layer norm where it has a bias."""
    if f"{name}.bias" in weights:
        return functional.layer_norm(
            values, values.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6
        )
    return rms(values, weights[f"{name}.weight"])


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
        given = normed(x, weights, f"{at}.norm1")
        joined = given @ weights[f"{at}.attn.qkv.weight"].T + weights.get(f"{at}.attn.qkv.bias", 0)
        query, key, value = joined.split(WIDTH, -1)
        if f"{at}.attn.q_norm.weight" in weights:
            query = rms(query, weights[f"{at}.attn.q_norm.weight"])
            key = rms(key, weights[f"{at}.attn.k_norm.weight"])
        heads = [one.reshape(n, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for one in (query, key, value)]
        scores = heads[0] @ heads[1].transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        mixed = (scores.softmax(-1) @ heads[2]).transpose(1, 2).reshape(n, -1, WIDTH)
        mixed = mixed @ weights[f"{at}.attn.proj.weight"].T + weights[f"{at}.attn.proj.bias"]
        x = x + mixed * weights[f"{at}.ls1"]
        given = normed(x, weights, f"{at}.norm2")
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
    *,
    transposed: bool = True,
) -> Tensor:
    """[1, length, vocabulary] of one prompt whose image tokens are replaced by the image's features."""
    network = llama(config)
    network.load_state_dict(
        {n.removeprefix("language_model."): v for n, v in weights.items() if n.startswith("language_model.")}
    )
    embeds = network.get_input_embeddings()(ids).clone()
    embeds[ids == image_token] = features(weights, pixels, layers, transposed=transposed).reshape(
        -1, LANGUAGE
    )
    logits: Tensor = network(inputs_embeds=embeds).logits
    return logits
