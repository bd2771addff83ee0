"""The towers of all families at their published widths with random weights, a few layers deep.

Each is made by the code that exports it for a site. A layer costs what it costs in the whole network, so ratios between
runners are those of the whole; films of the Qwen families are 476 x 420 pixels (Qwen3-VL 544 x 480).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from models.families.native.biomedclip import image_tower
from models.families.native.qwen3_tower import qwen3_source, shape_of_qwen3
from models.families.native.qwen_tower import qwen_source, shape_of_tower
from models.families.native.seeing import chat_source
from models.runners.encoder import EncoderSource

TEXT = {
    "vocab_size": 64, "hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
ROTARY = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
LAYERS = 4
GRID = (34, 30)
"""Patches of a film of the Qwen families: neither side is a whole number of windows."""


def noise(count: int, side: int, channels: int = 3) -> np.ndarray:
    """Pixels [count, channels, side, side]."""
    return np.random.default_rng(0).standard_normal((count, channels, side, side), np.float32)


def _vit_s() -> EncoderSource:
    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = transformers.ViTConfig(
                hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_hidden_layers=12
            )
            self.tower = transformers.ViTModel(config, add_pooling_layer=False)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.tower(pixel_values=pixels).last_hidden_state,)

    return EncoderSource(Tower().eval(), {"pixels": noise(8, 224)}, ("features",))


def _biomedclip() -> EncoderSource:
    config: Any = transformers.ViTConfig(num_hidden_layers=LAYERS)
    tower = image_tower(
        transformers.ViTModel(config, add_pooling_layer=False), torch.nn.Linear(768, 512, bias=False)
    )
    return EncoderSource(tower, {"pixels": noise(8, 224)}, ("features",))


def _vision(width: int, heads: int, inner: int, size: int, layers: int = LAYERS) -> dict[str, Any]:
    return {
        "hidden_size": width, "num_attention_heads": heads, "intermediate_size": inner, "image_size": size,
        "patch_size": 14, "num_hidden_layers": layers,
    }  # fmt: skip


def _llava_med() -> EncoderSource:
    vision = {"model_type": "clip_vision_model", **_vision(1024, 16, 4096, 336, LAYERS + 1)}
    config: Any = transformers.LlavaConfig(
        vision_config=vision, text_config={"model_type": "mistral", **TEXT}, vision_feature_layer=-2
    )
    model: Any = transformers.LlavaForConditionalGeneration(config).model
    return chat_source(model.eval(), noise(2, 336))


def _medgemma() -> EncoderSource:
    text = {"model_type": "gemma3_text", **TEXT, "head_dim": 64}
    vision = {"model_type": "siglip_vision_model", **_vision(1152, 16, 4304, 896, 1)}
    config: Any = transformers.Gemma3Config(
        vision_config=vision, text_config=text, mm_tokens_per_image=256, image_token_index=63
    )
    model: Any = transformers.Gemma3ForConditionalGeneration(config).model
    torch.nn.init.normal_(model.multi_modal_projector.mm_input_projection_weight, std=0.02)  # begins at zero
    return chat_source(model.eval(), noise(2, 896))


def _radvlm() -> EncoderSource:
    vision = {
        "model_type": "siglip_vision_model",
        **_vision(1152, 16, 4304, 384, 3),
        "vision_use_head": False,
    }
    config: Any = transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2", **TEXT},
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model: Any = transformers.LlavaOnevisionForConditionalGeneration(config).model
    return chat_source(model.eval(), noise(4, 384))


def _internvl(width: int, heads: int, inner: int, norm: str, normed: bool, layers: int) -> EncoderSource:
    vision = {
        **_vision(width, heads, inner, 448, layers), "norm_type": norm, "use_qk_norm": normed,
        "attention_bias": not normed, "use_mean_pooling": True,
    }  # fmt: skip
    config: Any = transformers.InternVLConfig(
        vision_config=vision, text_config={"model_type": "qwen2", **TEXT}, vision_feature_layer=-1
    )
    model: Any = transformers.InternVLForConditionalGeneration(config).model
    return chat_source(model.eval(), noise(2, 448))


def _qwen25() -> EncoderSource:
    vision = {
        "depth": LAYERS, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 128,
        "window_size": 112, "fullatt_block_indexes": [3],
    }  # fmt: skip
    config: Any = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": ROTARY}, vision_config=vision
    )
    network: Any = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    return _gridded(qwen_source(network.model, shape_of_tower(network)), shape_of_tower(network))


def _qwen3() -> EncoderSource:
    vision = {
        "depth": LAYERS, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 128,
        "deepstack_visual_indexes": [1, 2],
    }  # fmt: skip
    text = {**TEXT, "head_dim": 64, "rope_parameters": {**ROTARY, "mrope_interleaved": True}}
    config: Any = transformers.Qwen3VLConfig(text_config=text, vision_config=vision)
    network: Any = transformers.Qwen3VLForConditionalGeneration(config).eval()
    return _gridded(qwen3_source(network.model, shape_of_qwen3(network)), shape_of_qwen3(network))


def _gridded(source: EncoderSource, shape: Any) -> EncoderSource:
    values = source.inputs["pixels"].shape[-1]
    pixels = np.random.default_rng(0).standard_normal((2, GRID[0] * GRID[1], values), np.float32)
    inputs = {"pixels": pixels} | {name: np.stack([one, one]) for name, one in shape.inputs(*GRID).items()}
    return EncoderSource(source.module, inputs, source.outputs, source.lengths)


def _uni_med() -> EncoderSource:
    from models.families.uni_med.export import encoder_source
    from models.networks.eva_vit import EvaConfig
    from models.networks.uni_med import UniMedConfig, UniMedEncoder

    config = UniMedConfig(vision=EvaConfig(layers=LAYERS), language_width=256, router_hidden=64)
    return encoder_source(UniMedEncoder(config).eval())


def _mini() -> EncoderSource:
    from models.catalog import show
    from models.families.mini.export import encoder_source, load_network

    folder = show("firstread-mini").weights_folder
    assert folder is not None
    network = load_network(folder)
    source = encoder_source(network)
    pixels = np.random.default_rng(0).random((8, *source.inputs["pixels"].shape[1:]), np.float32)
    return EncoderSource(source.module, {"pixels": pixels}, source.outputs)


TOWERS: dict[str, Callable[[], EncoderSource]] = {
    "vit-s": _vit_s,
    "biomedclip": _biomedclip,
    "llava-med": _llava_med,
    "medgemma": _medgemma,
    "radvlm": _radvlm,
    "internvit-300m": lambda: _internvl(1024, 16, 4096, "layer_norm", False, LAYERS),
    "internvit-6b": lambda: _internvl(3200, 25, 12800, "rms_norm", True, 1),
    "qwen2.5-vl": _qwen25,
    "qwen3-vl": _qwen3,
    "uni-med": _uni_med,
    "firstread-mini": _mini,
}
"""A maker of each tower, with a batch of its inputs as the example."""
