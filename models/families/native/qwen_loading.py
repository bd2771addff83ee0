"""Loading a published Qwen-VL folder: merged weights, or a LoRA adapter with its base beside it."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.catalog import CatalogEntry
from models.families.native.networks import (
    ChatNetwork,
    describe_network,
    load_native,
    load_tokenizer,
    token_id,
)
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.placement import choose_placing
from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import ConfigurationError, StopRun

MIXTURES = {"qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration"}
"""Kinds whose language model is a mixture of experts, and their class: the tower is that of the dense kind."""
IMAGE_TOKEN, VIDEO_TOKEN = "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
MOST_PIXELS = {"umit.toml": 602_112, "chexone.toml": 262_144}
"""Pixels an image is shrunk to at most, as the authors trained: 768 tokens (UMIT), 512 x 512 (CheXOne)."""
FEWEST_PIXELS = {"chexone.toml": 256 * 28 * 28}
"""Pixels that a smaller image is enlarged to: as CheXOne's authors recommend (448 x 448)."""
USUAL_FEWEST = 56 * 56
CONFIG_FILE, ADAPTER_FILE, BASE_FOLDER = "config.json", "adapter_config.json", "base"


def load_checkpoint(entry: CatalogEntry, folder: Path, precision: str) -> ChatNetwork:
    """The network of one checkpoint. Raises ConfigurationError, StopRun."""
    fewest, most = FEWEST_PIXELS.get(entry.prompts, USUAL_FEWEST), MOST_PIXELS.get(entry.prompts, 0)
    kind = str(read_json(folder / CONFIG_FILE).get("model_type"))
    mixture = MIXTURES.get(kind, "") if entry.adapter == "qwen3-vl" else ""
    return load_qwen(folder, mixture or entry.network_class, most, precision, fewest)


def load_qwen(
    folder: Path,
    network_class: str,
    most_pixels: int = 0,
    precision: str = "auto",
    fewest_pixels: int = USUAL_FEWEST,
) -> ChatNetwork:
    """A published Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint; ``most_pixels`` 0 keeps the processor's own limits.

    Raises ConfigurationError, StopRun.
    """
    import transformers

    adapted = (folder / ADAPTER_FILE).is_file() and not (folder / CONFIG_FILE).is_file()
    source = folder / BASE_FOLDER if adapted else folder
    tokenizer, placing = load_tokenizer(source), choose_placing(precision, stored=True)
    if adapted and placing.reduced:
        message = "a LoRA adapter is not merged into 8 or 4 bits: set model.precision to bf16, or bring merged weights"
        raise ConfigurationError("precision", message)
    network, processor = load_native(
        source,
        getattr(transformers, network_class),
        transformers.Qwen2VLImageProcessorPil,
        placing,
        plain=adapted,
    )
    if most_pixels:
        processor.size = {"shortest_edge": min(fewest_pixels, most_pixels), "longest_edge": most_pixels}
    for mark in ("<|im_start|>", "<|im_end|>"):
        token_id(tokenizer, mark)
    token_id(tokenizer, VISION_START, network.config.vision_start_token_id)
    token_id(tokenizer, VISION_END, network.config.vision_end_token_id)
    token = token_id(tokenizer, IMAGE_TOKEN, network.config.image_token_id)
    if adapted:
        network = merge_adapter(network, folder)
    image = f"{VISION_START}{IMAGE_TOKEN}{VISION_END}"
    loaded = describe_network(
        source, network, tokenizer, processor, image, token, placing, template_image=image
    )
    return replace(loaded, files={**loaded.files, **weight_digests(folder)}) if adapted else loaded


def merge_adapter(network: Any, folder: Path) -> Any:
    """``network`` with the LoRA weights of ``folder`` merged into it.

    Raises StopRun where the adapter has a tensor that the network does not, or lacks one.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        settings = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as stored:
            held = set(stored.keys())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will go
            adapted = PeftModel.from_pretrained(network, folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StopRun("weights", f"the LoRA adapter cannot be read ({type(error).__name__})") from error
    if settings.get("peft_type") != "LORA" or held != set(get_peft_model_state_dict(adapted)):
        raise StopRun("weights", "the LoRA adapter's tensors are not those of this network")
    return adapted.merge_and_unload().eval()


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a folder."""
    return {path.name: weight_digest(path) for path in sorted(folder.glob("*.safetensors"))}
