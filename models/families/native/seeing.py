"""The tower and projector of a network that takes images of one size: MedRegA, LLaVA-Med, MedGemma."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.native.networks import ChatNetwork
from models.families.towers import SHAPING, Tower
from models.runners.encoder import EncoderSource

PARTS = ("vision_tower", "multi_modal_projector")
_HERE = Path(__file__).parent


def chat_tower(loaded: ChatNetwork, model_id: str) -> Tower:
    """The tower of a loaded network: pixels [n, 3, S, S] to features [n, tokens, width]."""
    model = without_language(loaded.network.model, PARTS)
    example = example_pixels(loaded)
    return Tower(
        model_id,
        tower_files(loaded, model),
        (*SHAPING, Path(__file__), _HERE / "internvl_chat.py"),
        lambda: chat_source(on_cpu(model), example),
        lambda: chat_source(model, example),
        float32_bytes(model),
        on_gpu=model.device.type != "cpu",
    )


def chat_source(model: Any, example: NDArray[np.float32]) -> EncoderSource:
    """Tower and projector of a loaded network's ``model``: ``pixels`` [n, 3, S, S] to ``features``."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> Any:
            given = pixels.to(self.model.dtype)
            if self.model.config.model_type in ("llava", "llava_onevision"):
                # its own method lists or joins the images one by one, which would fix their number in the graph
                config = self.model.config
                layers = self.model.vision_tower(given, output_hidden_states=True, return_dict=True)
                chosen = layers.hidden_states[config.vision_feature_layer]
                first = config.vision_feature_select_strategy == "default"
                projector = self.model.multi_modal_projector
                return (projector(chosen[:, 1:] if first else chosen).float(),)
            features = self.model.get_image_features(pixel_values=given, return_dict=True).pooler_output
            return (features.float(),)

    return EncoderSource(Tower().eval(), {"pixels": example}, ("features",))


def without_language(model: Any, parts: tuple[str, ...]) -> Any:
    """``model`` with the named parts alone, which it shares: the language model would be copied and counted too."""
    seeing = copy.copy(model)
    seeing._modules = {name: model._modules[name] for name in parts}
    return seeing


def on_cpu(model: Any) -> Any:
    """``model`` in float32 on the CPU: itself where it is that already."""
    import torch

    if model.device.type == "cpu" and model.dtype == torch.float32:
        return model
    return copy.deepcopy(model).to("cpu", torch.float32)


def tower_files(loaded: ChatNetwork, model: Any) -> dict[str, str]:
    """The digests of the weights, and the type that they were read in where it is not float32: it rounds them."""
    kind = str(model.dtype).removeprefix("torch.")
    return dict(loaded.files) if kind == "float32" else {**loaded.files, "dtype": kind}


def float32_bytes(model: Any) -> int:
    """Bytes of the weights in float32."""
    return sum(4 * parameter.numel() for parameter in model.parameters())


def example_pixels(loaded: ChatNetwork) -> NDArray[np.float32]:
    """A batch of two images of noise, prepared."""
    from PIL import Image

    generator = np.random.default_rng(0)
    images = [Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8), "RGB") for _ in range(2)]
    return np.asarray(loaded.processor(images=images, return_tensors="np")["pixel_values"], np.float32)
