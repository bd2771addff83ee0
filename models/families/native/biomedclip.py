"""BiomedCLIP: zero-shot classification, an image against the site's own class names.

Published for open_clip: ``open_clip_config.json`` and one state dict. open_clip needs torchvision, which the pinned
torch excludes, so the dict is mapped into transformers' ViT and BERT and two projections. Image tower: timm's ViT-B/16,
class token after the last norm, one linear projection. Text tower: BERT, class token, linear, GELU, linear. Both are
brought to length one; the probabilities are a softmax of their products times exp(logit_scale).
"""

import gc
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog import CatalogEntry
from models.families.native.internvl_chat import QKV
from models.families.towers import SHAPING, Tower, open_tower
from models.family import Answer, Features, Request, SeenImage, Task, unsupported
from models.model_choice import ModelChoice
from models.prompts import read_prompts
from models.runners.encoder import EncoderSource
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.tensors import open_tensors
from models.weight_loading.verified import check_keys
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy, StopRun
from pipeline.report import Label, Language
from pipeline.study import FRONTAL_VIEWS, ImageSet, StudyImage

CONFIG_FILE = "open_clip_config.json"
CONTEXT = 256
"""Tokens of a text at most."""
HEAD_WIDTH = 64
"""Width of one attention head in both towers."""
_RULES = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (r"visual\.trunk\.cls_token", "image.embeddings.cls_token"),
        (r"visual\.trunk\.pos_embed", "image.embeddings.position_embeddings"),
        (r"visual\.trunk\.patch_embed\.proj\.(.+)", r"image.embeddings.patch_embeddings.projection.\1"),
        (r"visual\.trunk\.blocks\.(\d+)\.norm1\.(.+)", r"image.layers.\1.layernorm_before.\2"),
        (r"visual\.trunk\.blocks\.(\d+)\.norm2\.(.+)", r"image.layers.\1.layernorm_after.\2"),
        (r"visual\.trunk\.blocks\.(\d+)\.attn\.qkv\.(.+)", r"image.layers.\1.attention.{qkv}.\2"),
        (r"visual\.trunk\.blocks\.(\d+)\.attn\.proj\.(.+)", r"image.layers.\1.attention.o_proj.\2"),
        (r"visual\.trunk\.blocks\.(\d+)\.mlp\.(fc[12])\.(.+)", r"image.layers.\1.mlp.\2.\3"),
        (r"visual\.trunk\.norm\.(.+)", r"image.layernorm.\1"),
        (r"visual\.head\.proj\.weight", "image_projection.weight"),
        (r"text\.transformer\.(.+)", r"text.\1"),
        (r"text\.proj\.([02])\.weight", r"text_projection.\1.weight"),
        (r"logit_scale", "logit_scale"),
    )
)
_MADE_AT_LOAD = "text.transformer.embeddings.position_ids"


@dataclass(frozen=True, slots=True)
class LoadedClip:
    """``network`` in evaluation mode on the CPU, tokenizer, preprocessing, and the SHA-256 of each file read."""

    network: Any
    tokenizer: Any
    processor: Any
    files: Mapping[str, str]


def native_names(name: str) -> tuple[str, ...]:
    """Our names of a published tensor, three for a joined query, key and value. Raises StopRun for an unknown one."""
    for pattern, target in _RULES:
        if pattern.fullmatch(name):
            new = pattern.sub(target, name)
            return tuple(new.replace("{qkv}", part) for part in QKV) if "{qkv}" in new else (new,)
    raise StopRun("weights", f"the weights hold a tensor {name} that BiomedCLIP does not have")


def load_biomedclip(folder: Path) -> LoadedClip:
    """BiomedCLIP as published for open_clip, its weights as safetensors.

    Raises ConfigurationError for a folder of another kind, StopRun for weights that are not the network's.
    """
    import transformers

    try:
        stored = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        model, preprocess = stored["model_cfg"], stored.get("preprocess_cfg", {})
        _check_architecture(model)
        embed, size = int(model["embed_dim"]), int(model["vision_cfg"].get("image_size", 224))
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"{folder} is not BiomedCLIP ({type(error).__name__}): it needs {CONFIG_FILE} and a tokenizer"
        )
        raise ConfigurationError("weights-folder", message) from None
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        message = f"{folder} holds {len(files)} safetensors files, not one; a pickle (.bin) is never read"
        raise ConfigurationError("weights-folder", message)
    weights = _read(files[0])
    network = build_network(weights, embed, size)
    if len(tokenizer) > network.text.config.vocab_size:
        raise StopRun(
            "tokenizer", "the tokenizer has more tokens than the network; they do not belong together"
        )
    network.load_state_dict(weights, assign=True)
    processor: Any = transformers.CLIPImageProcessorPil
    given = {
        key: preprocess[old]
        for old, key in (("mean", "image_mean"), ("std", "image_std"))
        if old in preprocess
    }
    read = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors", ".txt")]
    return LoadedClip(
        network.eval(),
        tokenizer,
        processor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **given),
        {path.name: weight_digest(path) for path in read},
    )


def _check_architecture(config: Mapping[str, Any]) -> None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    needs = {
        "a ViT-B/16 of timm": vision.get("timm_model_name") == "vit_base_patch16_224",
        "a linear projection of the image": vision.get("timm_proj") == "linear",
        "the class token of the image": vision.get("timm_pool", "") in ("", "token"),
        "an MLP projection of the text": text.get("hf_proj_type") == "mlp",
        "the class token of the text": text.get("hf_pooler_type") == "cls_last_hidden_state_pooler",
    }
    unmet = [what for what, met in needs.items() if not met]
    if unmet:
        raise ConfigurationError("weights-folder", f"this is not BiomedCLIP: it needs {', '.join(unmet)}")


def _read(path: Path) -> dict[str, Any]:
    """The weights under our names."""
    weights: dict[str, Any] = {}
    with open_tensors([path]) as tensors:
        for name, slices in tensors.items():
            if name == _MADE_AT_LOAD:
                continue
            new = native_names(name)
            tensor = slices[...].float()
            parts = tensor.chunk(len(new)) if len(new) > 1 else (tensor,)
            weights |= zip(new, parts, strict=True)
    return weights


def build_network(weights: Mapping[str, Any], embed: int, size: int) -> Any:
    """The network that ``weights``, under our names, belong to, without memory for its own.

    Raises StopRun where one is missing or misshapen.
    """
    import accelerate
    import torch
    import transformers

    bert: Any = transformers.BertModel
    vit: Any = transformers.ViTModel
    try:
        words, width = weights["text.embeddings.word_embeddings.weight"].shape
        wide, _, patch, _ = weights["image.embeddings.patch_embeddings.projection.weight"].shape
        vision_config = transformers.ViTConfig(
            image_size=size,
            patch_size=patch,
            layer_norm_eps=1e-6,
            hidden_size=wide,
            num_attention_heads=wide // HEAD_WIDTH,
            num_hidden_layers=_layers(weights, "image.layers."),
            intermediate_size=len(weights["image.layers.0.mlp.fc1.bias"]),
        )
        text_config = transformers.BertConfig(
            vocab_size=words,
            hidden_size=width,
            num_attention_heads=width // HEAD_WIDTH,
            num_hidden_layers=_layers(weights, "text.encoder.layer."),
            intermediate_size=len(weights["text.encoder.layer.0.intermediate.dense.bias"]),
            max_position_embeddings=len(weights["text.embeddings.position_embeddings.weight"]),
        )
    except (KeyError, ValueError) as error:
        raise StopRun("weights", f"the weights are not those of BiomedCLIP ({error})") from None

    class BiomedClip(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = vit(vision_config, add_pooling_layer=False)
            self.text = bert(text_config, add_pooling_layer=False)
            middle = (width + embed) // 2
            self.image_projection = torch.nn.Linear(wide, embed, bias=False)
            self.text_projection = torch.nn.Sequential(
                torch.nn.Linear(width, middle, bias=False),
                torch.nn.GELU(),
                torch.nn.Linear(middle, embed, bias=False),
            )
            self.logit_scale = torch.nn.Parameter(torch.zeros(()))

        def seeing(self) -> Any:
            """The image tower and its projection, shared."""
            return image_tower(self.image, self.image_projection)

        def read(self, ids: Any, mask: Any) -> Any:
            """Token ids [n, length] to text features [n, width] of length one."""
            first = self.text(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
            return torch.nn.functional.normalize(self.text_projection(first), dim=-1)

    with accelerate.init_empty_weights(include_buffers=False):
        network = BiomedClip()
    expected = network.state_dict()
    check_keys(expected, weights)
    for name, value in expected.items():
        if value.shape != weights[name].shape:
            message = (
                f"the tensor {name} has the shape {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
            raise StopRun("weights", message)
    return network


def image_tower(image: Any, projection: Any) -> Any:
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.projection = image, projection

        def forward(self, pixels: Any) -> Any:
            """Pixels [n, 3, S, S] to image features [n, width] of length one."""
            seen = self.image(pixel_values=pixels.to(self.projection.weight.dtype)).last_hidden_state[:, 0]
            return (torch.nn.functional.normalize(self.projection(seen).float(), dim=-1),)

    return ImageTower().eval()


def _layers(weights: Mapping[str, Any], start: str) -> int:
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in weights if name.startswith(start))


class BiomedClipFamily:
    """See ``models.family.Family``: classify alone, one image. The probabilities are over the labels given."""

    def __init__(
        self,
        entry: CatalogEntry,
        loaded: LoadedClip,
        cache: Path,
        *,
        require_runner: str = "",
        threads: int = 0,
        release: bool = False,
    ) -> None:
        """Open the image encoder under ``cache``. Raises StopRun for an unsound graph or an unmet runner.

        ``release`` lets the image tower in ``loaded`` go where a graph runs instead (``open_tower``).
        """
        self._loaded = loaded
        prompts = read_prompts(entry.prompts)
        self._template = prompts.texts[Task.CLASSIFY, Language.ENGLISH]
        with ExitStack() as stack:
            tower = clip_tower(loaded, entry.id)
            encoder, parts = open_tower(tower, cache, require_runner, threads, release=release)
            self._encoder = stack.enter_context(encoder)
            self._stack = stack.pop_all()
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
        self.traits, self.runner = replace(entry.traits, among_labels=True), self._encoder.runner
        self.parts = {f"weights/{name}": digest for name, digest in loaded.files.items()}
        self.parts |= {"runner": self.runner, "prompts": prompts.digest, "precision": "fp32"}
        self.parts |= {"film": "as stored"} | parts

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """One image [1, 3, S, S], a frontal film where there is one. Raises SkipStudy where the study has none."""
        grey = np.clip(np.rint(np.asarray(_first(study).pixels, np.float32) * 255), 0, 255).astype(np.uint8)
        picture = Image.fromarray(grey).convert("RGB")
        values = self._loaded.processor(images=[picture], return_tensors="np")["pixel_values"]
        return np.ascontiguousarray(values, np.float32)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        if not studies:
            return []
        rows = self._encoder.encode({"pixels": np.concatenate([self.prepare(study) for study in studies])})[
            "features"
        ]
        return [
            Features((_seen(_first(study)),), {"features": rows[row : row + 1]})
            for row, study in enumerate(studies)
        ]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``. The label of the highest probability is chosen and is the text."""
        if len(features) != len(requests):
            raise ValueError("features and requests go in pairs")
        return [self._answer(one, request) for one, request in zip(features, requests, strict=True)]

    def _answer(self, features: Features, request: Request) -> Answer:
        if request.task not in self.tasks or request.language not in self.languages:
            raise unsupported(self.model_id, request, "it classifies in English")
        if not features.images:
            raise FailStudy("no-images", "classify needs an image, and the study has none that is read")
        if len(request.labels) < 2:
            raise ConfigurationError(
                "no-labels", f"{self.model_id} compares labels: name two or more to choose among"
            )
        chances = self.probabilities(features.arrays["features"], request.labels)[0]
        best = int(np.argmax(chances))
        labels = tuple(
            Label(name, index == best, float(chance))
            for index, (name, chance) in enumerate(zip(request.labels, chances, strict=True))
        )
        return Answer(request.labels[best], truncated=False, labels=labels)

    def probabilities(self, features: NDArray[Any], labels: Sequence[str]) -> NDArray[np.float64]:
        """[images, labels], each row adding up to 1. Raises FailStudy for a label longer than the network reads."""
        import torch

        texts = [self._template.replace("{label}", label.strip()) for label in labels]
        given = self._loaded.tokenizer(texts, padding=True, return_tensors="pt")
        if given["input_ids"].shape[1] > CONTEXT:
            raise FailStudy("text-too-long", f"a label is longer than {CONTEXT} tokens")
        with torch.inference_mode():
            words = self._loaded.network.read(given["input_ids"], given["attention_mask"]).double().numpy()
            scale = float(self._loaded.network.logit_scale.double().exp())
        scores = scale * np.asarray(features, np.float64) @ words.T
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        vars(self).pop("_loaded", None)  # closing twice is allowed
        gc.collect()


def _first(study: ImageSet) -> StudyImage:
    if not study.images:
        raise SkipStudy("no-images", "the study has no image that this model reads")
    return min(study.images, key=lambda image: image.view not in FRONTAL_VIEWS)


def _seen(image: StudyImage) -> SeenImage:
    return SeenImage(image.ref, image.frame, image.original_rows, image.original_columns)


def clip_tower(loaded: LoadedClip, model_id: str) -> Tower:
    """The image tower of a loaded network: pixels [n, 3, S, S] to features [n, width] of length one."""
    size = loaded.processor.crop_size["height"]
    example = np.random.default_rng(0).standard_normal((2, 3, size, size), np.float32)
    source = EncoderSource(loaded.network.seeing(), {"pixels": example}, ("features",))
    return Tower(
        model_id, loaded.files, (*SHAPING, Path(__file__)), lambda: source, lambda: source, source.size
    )


def clip_towers(entry: CatalogEntry, folder: Path, _precision: str) -> list[Callable[[], Tower]]:
    """A loader of the one tower of a folder of weights. It raises as ``load_biomedclip``."""
    return [lambda: clip_tower(load_biomedclip(folder), entry.id)]


def open_biomedclip(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> BiomedClipFamily:
    """BiomedCLIP with the weights of ``choice``."""
    loaded = load_biomedclip(choice.folder(entry))
    return BiomedClipFamily(
        entry,
        loaded,
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )
