"""A small BiomedCLIP with random weights, saved as open_clip publishes it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

SIDE, PATCH, WIDE, LAYERS, EMBED, HEADS = 64, 16, 128, 2, 24, 2
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "this",
    "is",
    "a",
    "photo",
    "of",
    "chest",
    "x",
    "-",
    "ray",
    "brain",
    "mri",
)


def clip_config(side: int = SIDE, embed: int = EMBED) -> dict[str, Any]:
    """``open_clip_config.json``."""
    return {
        "model_cfg": {
            "embed_dim": embed,
            "vision_cfg": {
                "timm_model_name": "vit_base_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": side,
            },
            "text_cfg": {
                "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 256,
            },
        },
        "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
    }


def clip_weights(
    side: int = SIDE,
    wide: int = WIDE,
    layers: int = LAYERS,
    embed: int = EMBED,
    *,
    inner: tuple[int, int] = (200, 150),
    words: int = len(WORDS),
    scale: float = 0.2,
) -> dict[str, Tensor]:
    """Random weights under their published names; ``inner`` are the widths of the MLPs of image and text tower."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def linear(name: str, out: int, into: int) -> dict[str, Tensor]:
        return {f"{name}.weight": random(out, into), f"{name}.bias": random(out)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + random(wide), f"{name}.bias": random(wide)}

    middle, (seen, read) = (wide + embed) // 2, inner
    weights = {
        "logit_scale": torch.tensor(3.0),
        "visual.trunk.cls_token": random(1, 1, wide),
        "visual.trunk.pos_embed": random(1, (side // PATCH) ** 2 + 1, wide),
        "visual.trunk.patch_embed.proj.weight": random(wide, 3, PATCH, PATCH),
        "visual.trunk.patch_embed.proj.bias": random(wide),
        **norm("visual.trunk.norm"),
        "visual.head.proj.weight": random(embed, wide),
        "text.transformer.embeddings.position_ids": torch.arange(256)[None],
        "text.transformer.embeddings.word_embeddings.weight": random(words, wide),
        "text.transformer.embeddings.position_embeddings.weight": random(256, wide),
        "text.transformer.embeddings.token_type_embeddings.weight": random(2, wide),
        **norm("text.transformer.embeddings.LayerNorm"),
        "text.proj.0.weight": random(middle, wide),
        "text.proj.2.weight": random(embed, middle),
    }
    for layer in range(layers):
        at = f"visual.trunk.blocks.{layer}"
        weights |= norm(f"{at}.norm1") | norm(f"{at}.norm2") | linear(f"{at}.attn.qkv", 3 * wide, wide)
        weights |= linear(f"{at}.attn.proj", wide, wide)
        weights |= linear(f"{at}.mlp.fc1", seen, wide) | linear(f"{at}.mlp.fc2", wide, seen)
        at = f"text.transformer.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            weights |= linear(f"{at}.attention.self.{part}", wide, wide)
        weights |= linear(f"{at}.attention.output.dense", wide, wide) | norm(
            f"{at}.attention.output.LayerNorm"
        )
        weights |= linear(f"{at}.intermediate.dense", read, wide) | linear(f"{at}.output.dense", wide, read)
        weights |= norm(f"{at}.output.LayerNorm")
    return weights


def write_clip(folder: Path, weights: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    """Write ``weights``, under their published names, with ``config`` (the small one's) and a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config or clip_config()), encoding="utf-8")
    save_file(weights, folder / "open_clip_model.safetensors")
    backend = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder
