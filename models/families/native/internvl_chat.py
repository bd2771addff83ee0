"""InternVL checkpoints as published by their authors (``internvl_chat``, V1-2 to InternVL3) in transformers' network.

The published code is never run: transformers 5 builds networks without memory, which it does not bear. Its layout is
mapped name by name, the joined query, key and value split. The tower's norms are RMS norms (InternViT-6B, queries and
keys included) or layer norms (InternViT-300M); under ``ps_version`` "v1" the pixel shuffle leaves height and width
exchanged, so that the language model reads the image column by column; the language model is a Llama, a Qwen2, or an
InternLM2, which is a Llama whose query, key and value are joined by group.

Source of the layout: OpenGVLab/InternVL ``modeling_intern_vit.py``, ``modeling_internvl_chat.py``,
``modeling_internlm2.py``.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weight_loading.placement import PATTERNS, Placing
from models.weight_loading.tensors import open_tensors
from models.weight_loading.verified import check_keys
from pipeline.errors import ConfigurationError, StopRun

NORM_EPSILON = 1e-6
"""That of the query and key norms in transformers, which no setting changes."""
QKV = ("q_proj", "k_proj", "v_proj")

_VISION = "model.vision_tower."
_NAMES = (
    (r"vision_model\.embeddings\.class_embedding", rf"{_VISION}embeddings.cls_token"),
    (
        r"vision_model\.embeddings\.patch_embedding\.(.+)",
        rf"{_VISION}embeddings.patch_embeddings.projection.\1",
    ),
    (r"vision_model\.embeddings\.position_embedding", rf"{_VISION}embeddings.position_embeddings"),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.attn\.qkv\.(.+)",
        rf"{_VISION}encoder.layer.\1.attention.{{qkv}}.\2",
    ),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.attn\.([qk]_norm)\.(.+)",
        rf"{_VISION}encoder.layer.\1.attention.\2.\3",
    ),
    (
        r"vision_model\.encoder\.layers\.(\d+)\.attn\.proj\.(.+)",
        rf"{_VISION}encoder.layer.\1.attention.projection_layer.\2",
    ),
    (r"vision_model\.encoder\.layers\.(\d+)\.ls([12])", rf"{_VISION}encoder.layer.\1.lambda_\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.norm1\.(.+)", rf"{_VISION}encoder.layer.\1.layernorm_before.\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.norm2\.(.+)", rf"{_VISION}encoder.layer.\1.layernorm_after.\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.(fc[12])\.(.+)", rf"{_VISION}encoder.layer.\1.mlp.\2.\3"),
    (r"mlp1\.0\.(.+)", r"model.multi_modal_projector.layer_norm.\1"),
    (r"mlp1\.1\.(.+)", r"model.multi_modal_projector.linear_1.\1"),
    (r"mlp1\.3\.(.+)", r"model.multi_modal_projector.linear_2.\1"),
    (r"language_model\.lm_head\.weight", r"lm_head.weight"),
    (r"language_model\.model\.(.+)", r"model.language_model.\1"),
)
_TEXT = "model.language_model."
_INTERNLM2 = (
    (r"language_model\.output\.weight", r"lm_head.weight"),
    (r"language_model\.model\.tok_embeddings\.(.+)", rf"{_TEXT}embed_tokens.\1"),
    (
        r"language_model\.model\.layers\.(\d+)\.attention\.wqkv\.(.+)",
        rf"{_TEXT}layers.\1.self_attn.{{qkv}}.\2",
    ),
    (r"language_model\.model\.layers\.(\d+)\.attention\.wo\.(.+)", rf"{_TEXT}layers.\1.self_attn.o_proj.\2"),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w1\.(.+)", rf"{_TEXT}layers.\1.mlp.gate_proj.\2"),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w2\.(.+)", rf"{_TEXT}layers.\1.mlp.down_proj.\2"),
    (r"language_model\.model\.layers\.(\d+)\.feed_forward\.w3\.(.+)", rf"{_TEXT}layers.\1.mlp.up_proj.\2"),
    (r"language_model\.model\.layers\.(\d+)\.attention_norm\.(.+)", rf"{_TEXT}layers.\1.input_layernorm.\2"),
    (
        r"language_model\.model\.layers\.(\d+)\.ffn_norm\.(.+)",
        rf"{_TEXT}layers.\1.post_attention_layernorm.\2",
    ),
)
_RULES = tuple((re.compile(pattern), target) for pattern, target in (*_INTERNLM2, *_NAMES))
LANGUAGE = {
    "LlamaForCausalLM": "LlamaConfig",
    "Qwen2ForCausalLM": "Qwen2Config",
    "InternLM2ForCausalLM": "LlamaConfig",
}
"""The native configuration of each language model, by the published class."""
GROUPED = "InternLM2ForCausalLM"
_NOT_TEXT = ("model_type", "auto_map", "attn_implementation", "bias", "rope_scaling")
"""Of a published language model: what names its code, InternLM2's word for attention_bias, and what is made anew."""
_MADE_AT_LOAD = "rotary_emb.inv_freq"
"""Stored by old checkpoints; holds no weights."""


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """The published ``config.json``.

    ``size`` is the side of an image or tile in pixels, ``transposed`` means ps_version v1, ``tiles`` the least and the
    most tiles of one image (one and one: it is not cut), ``thumbnail`` that the whole image follows its tiles, and
    ``template`` the name of the conversation it was trained on.
    """

    vision: Mapping[str, Any]
    language: Mapping[str, Any]
    size: int
    select_layer: int
    downsample_ratio: float
    transposed: bool
    tiles: tuple[int, int] = (1, 1)
    thumbnail: bool = False
    template: str = ""

    @property
    def tokens(self) -> int:
        """Visual tokens of one image or tile."""
        return int((self.size // int(self.vision["patch_size"])) ** 2 * self.downsample_ratio**2)

    @property
    def text_class(self) -> str:
        """The published class of the language model."""
        return str(self.language["architectures"][0])

    @property
    def joined(self) -> tuple[int, int]:
        """Query heads that share a key and a value, and the values of a head."""
        heads = int(self.language["num_attention_heads"])
        sharing = heads // int(self.language.get("num_key_value_heads") or heads)
        return sharing, int(self.language["hidden_size"]) // heads


def read_layout(folder: Path, *, tiled: bool = False) -> ChatLayout:
    """The layout of a published folder; ``tiled`` allows images that are cut into tiles.

    Raises ConfigurationError where it is one that this mapping does not cover.
    """
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vision, language = dict(stored["vision_config"]), dict(stored["llm_config"])
        size = int(stored.get("force_image_size") or vision["image_size"])
        cut = bool(stored.get("dynamic_image_size", False))
        tiles = (int(stored.get("min_dynamic_patch", 1)), int(stored.get("max_dynamic_patch", 6)))
        layout = ChatLayout(
            vision,
            language,
            size,
            int(stored.get("select_layer", -4)),
            float(stored.get("downsample_ratio", 0.5)),
            stored.get("ps_version", "v1") == "v1",
            tiles if cut else (1, 1),
            cut and bool(stored.get("use_thumbnail", False)),
            str(stored.get("template", "")),
        )
        known = stored["model_type"] == "internvl_chat"
        normed = vision.get("qk_normalization", True)
        needs = {
            "a language model that is a Llama, a Qwen2 or an InternLM2": language["architectures"][0]
            in LANGUAGE,
            "an output matrix of its own": not language.get("tie_word_embeddings", False),
            "one size for image and positions": size == int(vision["image_size"]),
            "norms of kind rms_norm or layer_norm": _norms(vision) in ("rms_norm", "layer_norm"),
            f"norms with epsilon {NORM_EPSILON}": not normed
            or float(vision.get("layer_norm_eps", NORM_EPSILON)) == NORM_EPSILON,
            "images that are not tiled": tiled or not cut,
            "tiles from 1 to at most 64": 1 <= tiles[0] <= tiles[1] <= 64,
            "images that are not padded": not stored.get("pad2square", False),
            "pixel shuffle v1 or v2": stored.get("ps_version", "v1") in ("v1", "v2"),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigurationError(
            "weights-folder", f"config.json of {folder} is not that of an internvl_chat model ({error})"
        ) from None
    unmet = [what for what, met in needs.items() if not met]
    if not known or unmet:
        what = ", ".join(unmet) or "the model type internvl_chat"
        raise ConfigurationError(
            "weights-folder", f"{folder} is not an InternVL that is read here: it needs {what}"
        )
    return layout


def _norms(vision: Mapping[str, Any]) -> str:
    return str(vision.get("norm_type", "rms_norm"))


def native_names(name: str) -> tuple[str, ...]:
    """The native name of a published tensor; three for a joined query, key and value. Raises StopRun for others."""
    for pattern, target in _RULES:
        if pattern.fullmatch(name):
            new = pattern.sub(target, name)
            return tuple(new.replace("{qkv}", part) for part in QKV) if "{qkv}" in new else (new,)
    raise StopRun("weights", f"the weights hold a tensor {name} that InternVL does not have")


def native_config(layout: ChatLayout, image_token: int) -> Any:
    """The configuration of the native class."""
    import transformers

    vision = layout.vision
    return transformers.InternVLConfig(
        vision_config={
            "hidden_size": vision["hidden_size"],
            "num_hidden_layers": vision["num_hidden_layers"],
            "num_attention_heads": vision["num_attention_heads"],
            "intermediate_size": vision["intermediate_size"],
            "hidden_act": vision.get("hidden_act", "gelu"),
            "attention_bias": vision.get("qkv_bias", False),
            "use_qk_norm": vision.get("qk_normalization", True),
            "norm_type": _norms(vision),
            "layer_norm_eps": float(vision.get("layer_norm_eps", NORM_EPSILON)),
            "image_size": layout.size,
            "patch_size": vision["patch_size"],
            "use_mean_pooling": True,  # there is no norm after the last layer
        },
        text_config=getattr(transformers, LANGUAGE[layout.text_class])(**_text_settings(layout)),
        image_token_id=image_token,
        image_seq_length=layout.tokens,
        downsample_ratio=layout.downsample_ratio,
        vision_feature_layer=layout.select_layer,
        tie_word_embeddings=False,
    )


def _text_settings(layout: ChatLayout) -> dict[str, Any]:
    """The language model's published settings as the native class takes them."""
    settings = {name: value for name, value in layout.language.items() if name not in _NOT_TEXT}
    if layout.text_class == GROUPED:
        settings["attention_bias"] = bool(layout.language.get("bias", False))
    scaling = layout.language.get("rope_scaling")
    if scaling:  # both names of its kind are published; the native class takes one
        kind = scaling.get("rope_type", scaling.get("type"))
        settings["rope_scaling"] = {k: v for k, v in scaling.items() if k != "type"} | {"rope_type": kind}
    return settings


def load_internvl_chat(folder: Path, image_token: int, placing: Placing, *, tiled: bool = False) -> Any:
    """The native network with the published weights, tokens in the order that they were trained in.

    Tensors are read one at a time, each once, into a network that was built without memory; on a CPU in float32 the
    matrices of the language model are packed on the way (``pack_stored``). Raises ConfigurationError for another
    layout, StopRun where a tensor is missing, unexpected or misshapen.
    """
    import accelerate
    import transformers

    layout = read_layout(folder, tiled=tiled)
    with accelerate.init_empty_weights(include_buffers=False):
        network: Any = transformers.InternVLForConditionalGeneration(native_config(layout, image_token))
    if placing.reduced:
        from transformers.integrations.bitsandbytes import replace_with_bnb_linear

        network = replace_with_bnb_linear(network, PATTERNS, placing.bits())
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigurationError("weights-folder", f"{folder} holds no safetensors file")
    with open_tensors(files) as tensors:
        targets = {name: native_names(name) for name in tensors if not name.endswith(_MADE_AT_LOAD)}
        check_keys(network.state_dict().keys(), (name for names in targets.values() for name in names))
        read = _read_converted(network, files, targets) if _converts(placing) else frozenset()
        for name, names in targets.items():
            if name in read:
                continue
            for new, tensor in _parts(tensors[name], names, layout.joined if ".wqkv." in name else None):
                _place(network, new, tensor, placing)
    if layout.transposed:
        network.model.pixel_shuffle = keep_transposed(network.model.pixel_shuffle)
    return placing.put(network).eval()


def _converts(placing: Placing) -> bool:
    import torch

    return placing.device == "cpu" and placing.dtype == torch.float32 and not placing.reduced


def _read_converted(
    network: Any, files: Sequence[Path], targets: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """Put the tensors of ``files`` into ``network`` in float32, those of its language model packed.

    ``targets`` are the native names of each published one. Gives the published names that were read: all but those
    whose parts do not lie one after another, and of kinds other than 16 and 32 bit floats.
    """
    import torch

    from models.runners.packed_products import pack_stored
    from models.weight_loading.stored_tensors import Scratch, StoredTensor, in_threads, open_stored

    with open_stored(files) as stored:
        taken = frozenset(name for name in targets if name in stored and ".wqkv." not in name)
        tensors: dict[str, StoredTensor] = {}
        for name in taken:
            whole, names = stored[name], targets[name]
            rows = whole.shape[0] // len(names) if whole.shape else 0
            for place, new in enumerate(names):
                tensors[new] = whole if len(names) == 1 else whole.rows(place * rows, (place + 1) * rows)
                _check_shape(network, new, tensors[new].shape)
        laid = pack_stored(network, tensors)
        read = {name: torch.empty(tensors[name].shape) for name in tensors if name not in laid}

        def reading(tensor: StoredTensor, into: Any) -> Callable[[Scratch], None]:
            return lambda scratch: tensor.read(into, scratch.staging)

        in_threads(reading(tensors[name], into) for name, into in read.items())
    for name, value in read.items():
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, torch.nn.Parameter(value, requires_grad=False))
    return taken


def keep_transposed(shuffle: Callable[..., Any]) -> Callable[..., Any]:
    """``shuffle`` without its last step: [n, height, width, channels] comes out as [n, width, height, channels]."""

    def transposed(features: Any, scale_factor: float = 0.5) -> Any:
        return shuffle(features, scale_factor=scale_factor).transpose(1, 2)

    return transposed


def _parts(
    tensor: Any, targets: tuple[str, ...], joined: tuple[int, int] | None
) -> Iterator[tuple[str, Any]]:
    """The tensors that a published one holds: itself, thirds of it, or what InternLM2 joins by group.

    ``joined`` are the query heads of a group and the values of a head: rows are the queries of a group, its key, its
    value, group after group.
    """
    if len(targets) == 1:
        yield targets[0], tensor[...]
        return
    if joined is not None:
        heads, values = joined
        whole = tensor[...]
        rows = whole.reshape(-1, heads + 2, values, *whole.shape[1:])
        for target, part in zip(targets, (rows[:, :heads], rows[:, heads], rows[:, heads + 1]), strict=True):
            yield target, part.reshape(-1, *whole.shape[1:]).contiguous()
        return
    third = tensor.get_shape()[0] // len(targets)
    for place, target in enumerate(targets):
        yield target, tensor[place * third : (place + 1) * third]


def _place(network: Any, name: str, tensor: Any, placing: Placing) -> None:
    import torch

    _check_shape(network, name, tensor.shape)
    owner, _, leaf = name.rpartition(".")
    module = network.get_submodule(owner)
    value = tensor.to(device=placing.device, dtype=placing.dtype or tensor.dtype)
    empty = getattr(module, leaf)
    if placing.reduced and type(empty) is not torch.nn.Parameter:  # a matrix that bitsandbytes holds
        settings = {key: one for key, one in vars(empty).items() if key != "SCB"}
        setattr(module, leaf, type(empty)(value, requires_grad=False, **settings).to(placing.device))
        return
    setattr(module, leaf, torch.nn.Parameter(value, requires_grad=False))


def _check_shape(network: Any, name: str, shape: Sequence[int]) -> None:
    owner, _, leaf = name.rpartition(".")
    wanted = tuple(getattr(network.get_submodule(owner), leaf).shape)
    if tuple(shape) != wanted:
        raise StopRun("weights", f"the tensor {name} has the shape {tuple(shape)}, not {wanted}")
