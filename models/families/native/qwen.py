"""Qwen2-VL and Qwen2.5-VL as families: UMIT, Lingshu, CheXOne.

Images keep their aspect ratio and have as many tokens as their size asks for, so the features of a study are one row of
tokens with the grid of each image beside it. UMIT ships a checkpoint per task: its folder then holds a folder for each,
named as the task, and one is held in memory at a time.
"""

import gc
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog import CatalogEntry
from models.families.native.chat import ChatFamily, grey_picture, picture_of, seen_image
from models.families.native.dialect import IMAGE_MARK, ParsedAnswer
from models.families.native.networks import (
    ChatNetwork,
    describe_network,
    load_native,
    load_tokenizer,
    token_id,
)
from models.families.native.qwen_tower import MERGE, TowerShape, qwen_tower, see_images, shape_of_tower
from models.families.native.qwen_words import WORDS, LingshuWords
from models.families.towers import Tower
from models.family import Answer, Features, Request, Task
from models.model_choice import ModelChoice
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.placement import choose_placing
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import ImageSet, StudyImage

IMAGE_TOKEN, VISION_START, VISION_END = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"
MOST_PIXELS = {"umit.toml": 602_112, "chexone.toml": 262_144}
"""Pixels an image is shrunk to at most, as the authors trained: 768 tokens (UMIT), 512 x 512 (CheXOne)."""
FEWEST_PIXELS = {"chexone.toml": 256 * 28 * 28}
"""Pixels that a smaller image is enlarged to: as CheXOne's authors recommend (448 x 448)."""
USUAL_FEWEST = 56 * 56
CONFIG_FILE, ADAPTER_FILE, BASE_FOLDER = "config.json", "adapter_config.json", "base"


@dataclass(frozen=True, slots=True)
class _Seen:
    """Features [tokens, width] of the images of one prompt and their grids [images, 3] (1, rows, columns)."""

    features: NDArray[np.float32]
    grids: NDArray[np.int64]


class QwenFamily(ChatFamily):
    """See ``models.family.Family``. Features: ``features`` [tokens, width] and ``grids`` [images, 3]."""

    _shape: TowerShape

    def _tower(self, loaded: ChatNetwork) -> Tower:
        self._shape = shape_of_tower(loaded.network)
        return qwen_tower(loaded, self._entry.id)

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The patches [n, values] of all images of the study, one after the other. Raises SkipStudy."""
        return np.concatenate([patches for patches, _ in map(self._patches, self._choose(study))])

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        chosen = [self._choose(study) for study in studies]
        prepared = [self._patches(image) for images in chosen for image in images]
        if not prepared:
            return []
        grids = [(int(grid[1]), int(grid[2])) for _, grid in prepared]
        rows = iter(see_images(self._encoder, [patches for patches, _ in prepared], grids, self._shape))
        known = iter([grid for _, grid in prepared])
        return [
            Features(
                tuple(seen_image(image) for image in images),
                {
                    "features": np.concatenate([next(rows) for _ in images]),
                    "grids": np.stack([next(known) for _ in images]),
                    "modality": np.array([image.modality for image in images]),
                },
            )
            for images in chosen
        ]

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self._loaded.processor.patch_size)

    def shrink(self, study: ImageSet) -> NDArray[np.uint8]:
        """The grey values of the images that are read, at the processor's size, one after the other."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        processor, greys = self._loaded.processor, []
        least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
        for image in self._choose(study):
            picture = grey_picture(image)
            rows, columns = smart_resize(picture.height, picture.width, MERGE * self.patch, least, most)
            greys.append(np.asarray(picture.resize((columns, rows), processor.resample)).ravel())
        return np.concatenate(greys)

    def _patches(self, image: StudyImage) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        made = self._loaded.processor(images=[picture_of(image)], return_tensors="np")
        grid = np.asarray(made["image_grid_thw"][0], np.int64)
        return np.ascontiguousarray(made["pixel_values"], np.float32), grid

    def _insert(self, text: str, features: Features, request: Request) -> tuple[str, Any]:
        count = text.count(IMAGE_MARK)
        if not count:
            return text, None
        grids = features.arrays["grids"][:count]
        tokens = grids.prod(axis=1) // MERGE**2
        pieces = text.split(IMAGE_MARK)
        for place, number in enumerate(tokens.tolist()):
            pieces[place] += f"{VISION_START}{IMAGE_TOKEN * number}{VISION_END}"
        return "".join(pieces), _Seen(features.arrays["features"][: int(tokens.sum())], grids)

    def _give(self, seen: Sequence[Any], ids: Any) -> dict[str, Any]:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if not seen:
            return {}
        network = self._loaded.network
        values = torch.from_numpy(np.concatenate([one.features for one in seen]))
        images: Any = [values.to(network.device, network.dtype)]
        output = BaseModelOutputWithPooling(pooler_output=images)
        return {
            "mm_encoder_outputs": {"image": output},
            "image_grid_thw": torch.from_numpy(np.concatenate([one.grids for one in seen])).to(
                network.device
            ),
            "mm_token_type_ids": (ids == self._loaded.image_token).int(),
        }

    def _read(self, text: str, request: Request, features: Features) -> ParsedAnswer:
        if isinstance(self._dialect, LingshuWords) and features.images:
            side = self._loaded.network.config.vision_config.patch_size
            sizes = [(int(rows) * side, int(columns) * side) for _, rows, columns in features.arrays["grids"]]
            return self._dialect.read_resized(text, request, features.images, sizes)
        return super()._read(text, request, features)


class PerTaskFamily:
    """A family with a checkpoint per task, one in memory at a time. See ``models.family.Family``.

    Towers differ between the checkpoints, so a study is encoded by that of the report (or of the first task there is),
    and again by that of another task when it is asked. For that its features keep ``greys``: the values of each image
    at the size that the processor shrinks it to, one byte a pixel, at most 602,112 bytes an image (``MOST_PIXELS``).
    """

    def __init__(
        self, entry: CatalogEntry, folders: Mapping[Task, Path], choice: ModelChoice, cache: Path
    ) -> None:
        """Open the checkpoint of the first task. Raises as ``open_qwen``."""
        self._entry, self._folders = entry, dict(folders)
        self._choice, self._cache = choice, cache
        self._lock = Lock()
        self._task = Task.REPORT if Task.REPORT in folders else next(iter(folders))
        self._first = self._task
        self._family = self._open(self._task)
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks, self.languages = frozenset(folders), frozenset(entry.languages)
        self.traits, self.runner = entry.traits, self._family.runner
        self.parts = {f"{self._task}/{name}": value for name, value in self._family.parts.items()}
        for task, folder in self._folders.items():
            if task is not self._task:
                self.parts |= {f"{task}/weights/{name}": digest for name, digest in _digests(folder).items()}

    def _open(self, task: Task) -> QwenFamily:
        return open_checkpoint(self._entry, self._folders[task], self._choice, self._cache)

    def _use(self, task: Task) -> QwenFamily:
        if task is not self._task:
            self._family.__exit__(None, None, None)
            gc.collect()
            self._family, self._task = self._open(task), task
        return self._family

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """See ``QwenFamily.prepare``."""
        with self._lock:
            return self._family.prepare(study)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``; the features keep small pictures for the other checkpoints."""
        with self._lock:
            family = self._use(self._first)
            return [
                replace(one, arrays={**one.arrays, "greys": family.shrink(study)})
                for one, study in zip(family.encode(studies), studies, strict=True)
            ]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``; requests of one task are answered together."""
        for request in requests:
            if request.task not in self._folders:
                message = (
                    f"{self.model_id} has no checkpoint for {request.task} here: add a folder of that name"
                )
                raise ConfigurationError("unsupported-task", message)
        answers: dict[int, Answer] = {}
        with self._lock:
            for task in dict.fromkeys(request.task for request in requests):
                rows = [row for row, request in enumerate(requests) if request.task is task]
                family, given = self._use(task), [features[row] for row in rows]
                if task is not self._first:
                    given = family.encode([_study_again(one, family.patch) for one in given])
                written = family.answer(given, [requests[row] for row in rows])
                answers.update(zip(rows, written, strict=True))
        return [answers[row] for row in range(len(requests))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._family.__exit__(kind, error, trace)


def _study_again(features: Features, patch: int) -> ImageSet:
    """The study of the ``greys`` that features keep; processing them gives the patches of the study itself."""
    sides = features.arrays["grids"][:, 1:] * patch
    ends = np.cumsum(sides.prod(axis=1))
    images = [
        StudyImage(
            image.ref, image.frame, grey.reshape(side).astype(np.float32) / np.float32(255), image.rows,
            image.columns, None, str(modality), "", "", "MONOCHROME2",
        )
        for image, grey, side, modality in zip(
            features.images, np.split(features.arrays["greys"], ends[:-1]), sides, features.arrays["modality"],
            strict=True,
        )
    ]  # fmt: skip
    return ImageSet(features.images[0].ref.study_instance_uid, tuple(images))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: weight_digest(path) for path in sorted(folder.glob("*.safetensors"))}


def open_qwen(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> QwenFamily | PerTaskFamily:
    """A Qwen2-VL or Qwen2.5-VL family with the weights of ``choice``: one checkpoint, or a folder per task.

    Raises ConfigurationError for a folder that holds neither, StopRun for weights that are not this network's.
    """
    folders = find_checkpoints(entry, choice.folder(entry))
    if isinstance(folders, Path):
        return open_checkpoint(entry, folders, choice, cache)
    return PerTaskFamily(entry, folders, choice, cache)


def find_checkpoints(entry: CatalogEntry, folder: Path) -> Path | dict[Task, Path]:
    """``folder`` where it holds a checkpoint, else the folders in it that are named as tasks.

    Raises ConfigurationError where there are neither.
    """
    if any((folder / name).is_file() for name in (CONFIG_FILE, ADAPTER_FILE)):
        return folder
    folders = {task: folder / task.value for task in entry.tasks if (folder / task.value).is_dir()}
    if not folders:
        names = ", ".join(task.value for task in entry.tasks)
        message = f"{folder} holds no {CONFIG_FILE} and no folder named as a task ({names}): bring the weights there"
        raise ConfigurationError("weights-folder", message)
    return folders


def qwen_towers(entry: CatalogEntry, folder: Path, precision: str) -> list[Callable[[], Tower]]:
    """A loader of the tower of each checkpoint in a folder of weights. Raises as ``open_qwen``."""

    def loader(one: Path) -> Callable[[], Tower]:
        return lambda: qwen_tower(load_checkpoint(entry, one, precision), entry.id)

    found = find_checkpoints(entry, folder)
    return [loader(one) for one in ([found] if isinstance(found, Path) else found.values())]


def load_checkpoint(entry: CatalogEntry, folder: Path, precision: str) -> ChatNetwork:
    """The network of one checkpoint. Raises ConfigurationError, StopRun."""
    fewest, most = FEWEST_PIXELS.get(entry.prompts, USUAL_FEWEST), MOST_PIXELS.get(entry.prompts, 0)
    return load_qwen(folder, entry.network_class, most, precision, fewest)


def open_checkpoint(entry: CatalogEntry, folder: Path, choice: ModelChoice, cache: Path) -> QwenFamily:
    """One checkpoint: merged weights, or a LoRA adapter with its base in the folder ``base`` beside it."""
    dialect = WORDS[entry.prompts](entry.prompts, entry.images or 1)
    return QwenFamily(
        entry,
        load_checkpoint(entry, folder, choice.precision),
        dialect,
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )


def load_qwen(
    folder: Path,
    network_class: str,
    most_pixels: int = 0,
    precision: str = "auto",
    fewest_pixels: int = USUAL_FEWEST,
) -> ChatNetwork:
    """A published Qwen2-VL or Qwen2.5-VL checkpoint; ``most_pixels`` 0 keeps the processor's own limits.

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
        source, getattr(transformers, network_class), transformers.Qwen2VLImageProcessorPil, placing
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
    return replace(loaded, files={**loaded.files, **_digests(folder)}) if adapted else loaded


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
