"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as families: UMIT, Lingshu, CheXOne, UniRG-CXR and other fine-tunes.

Images keep their aspect ratio and have as many tokens as their size asks for, so the features of a study are one row of
tokens with the grid of each image beside it. UMIT ships a checkpoint per task: its folder then holds a folder for each,
named as the task, and one is held in memory at a time.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog import CatalogEntry
from models.families.native.chat import ChatFamily, grey_picture, picture_of, seen_image
from models.families.native.dialect import IMAGE_MARK, Dialect, ParsedAnswer
from models.families.native.networks import ChatNetwork, token_id
from models.families.native.qwen3_clips import (
    ClipRule,
    clip_patches,
    pair_text,
    pair_times,
    read_clip_rule,
    shown_together,
)
from models.families.native.qwen3_tower import DEEP, qwen3_tower, shape_of_qwen3
from models.families.native.qwen_dialects import find_dialect, limit_to_words
from models.families.native.qwen_loading import (
    ADAPTER_FILE,
    CONFIG_FILE,
    IMAGE_TOKEN,
    MIXTURES,
    VIDEO_TOKEN,
    VISION_END,
    VISION_START,
    load_checkpoint,
    weight_digests,
)
from models.families.native.qwen_seen import SeenTokens, give_features
from models.families.native.qwen_tower import MERGE, GridInputs, qwen_tower, see_images, shape_of_tower
from models.families.native.qwen_words import LingshuWords
from models.families.towers import Tower
from models.family import Answer, Features, Request, Task
from models.model_choice import ModelChoice
from pipeline.accepts import Kind
from pipeline.errors import ConfigurationError, SkipStudy
from pipeline.study import ImageSet, StudyImage

QWEN3 = ("qwen3_vl", *MIXTURES)
"""The kinds of model in the config.json of Qwen3-VL."""
BOUND_PIXELS = 1 << 20
"""Pixels of an image at most, unless its tower runs in torch on a GPU: elsewhere attention takes hours, or memory by
the square of the patches (Qwen2.5-VL's windows on ONNX Runtime: 4 bytes x heads x patches x patches)."""


class _Piece(NamedTuple):
    """One image of the tower: a picture, or a pair of frames at ``time`` (seconds), of the ``unit``-th shown."""

    patches: NDArray[np.float32]
    grid: NDArray[np.int64]
    unit: int
    time: float | None = None


class QwenFamily(ChatFamily):
    """See ``models.family.Family``. Features: ``features`` [tokens, width] and ``grids`` [images, 3].

    Those of Qwen3-VL have ``deep`` [tokens, layers, width] too. Of a study with a clip each pair of its frames is an
    image there, and beside them stand ``times`` [images], the second of a pair, NaN of a picture, ``unit`` [images],
    which picture or clip each is of, and ``leads``, which of the images that were shown begin one.
    """

    _shape: GridInputs

    def __init__(
        self, entry: CatalogEntry, loaded: ChatNetwork, dialect: Dialect, cache: Path, **options: Any
    ) -> None:
        """As ``ChatFamily``; images are kept to ``BOUND_PIXELS`` where more would not fit."""
        super().__init__(entry, loaded, dialect, cache, **options)
        linear = self.runner == "torch" and loaded.network.device.type != "cpu"
        self._bound = 0 if linear else BOUND_PIXELS
        self._clips: ClipRule | None = None
        if any(one.kind in (Kind.CINE, Kind.VIDEO) for one in entry.accepts):
            token_id(loaded.tokenizer, VIDEO_TOKEN, loaded.network.config.video_token_id)
            self._clips = read_clip_rule(loaded.folder, self.patch)
        size = loaded.processor.size
        if not linear and size["longest_edge"] > BOUND_PIXELS:
            least = min(size["shortest_edge"], BOUND_PIXELS)
            loaded.processor.size = {"shortest_edge": least, "longest_edge": BOUND_PIXELS}
            self.parts |= {"pixels": f"at most {BOUND_PIXELS} of an image"}

    def _tower(self, loaded: ChatNetwork) -> Tower:
        self._shape, tower = _seeing(loaded, self._entry.id)
        return tower

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The patches [n, values] of all images of the study, one after the other. Raises SkipStudy."""
        return np.concatenate([piece.patches for piece in self._pieces(self._choose(study))])

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        chosen = [self._choose(study) for study in studies]
        prepared = [self._pieces(images) for images in chosen]
        flat = [piece for pieces in prepared for piece in pieces]
        if not flat:
            return []
        grids = [(int(piece.grid[1]), int(piece.grid[2])) for piece in flat]
        seen = see_images(self._encoder, [piece.patches for piece in flat], grids, self._shape)
        encoded, start = [], 0
        for images, pieces in zip(chosen, prepared, strict=True):
            part = slice(start, start + len(pieces))
            arrays = {name: np.concatenate([one[name] for one in seen[part]]) for name in seen[start]}
            arrays["grids"] = np.stack([piece.grid for piece in pieces])
            arrays["modality"] = np.array([image.modality for image in images])
            if any(piece.time is not None for piece in pieces):
                arrays["times"] = np.array([piece.time for piece in pieces], np.float64)
                arrays["unit"] = np.array([piece.unit for piece in pieces])
                arrays["leads"] = np.array(
                    [no == 0 for unit in self._units(images) for no in range(len(unit))]
                )
            encoded.append(Features(tuple(seen_image(image) for image in images), arrays))
            start = part.stop
        return encoded

    def _choose(self, study: ImageSet) -> list[StudyImage]:
        """As ``ChatFamily``; a clip counts as one image."""
        units = self._units(study.images)
        if len(units) == len(study.images):
            return super()._choose(study)
        most = min(self._dialect.most_images, self._entry.images or 1)
        return [image for unit in units[:most] for image in unit]

    def _units(self, images: Sequence[StudyImage]) -> list[tuple[StudyImage, ...]]:
        return [(image,) for image in images] if self._clips is None else shown_together(images)

    def _pieces(self, images: Sequence[StudyImage]) -> list[_Piece]:
        pieces = []
        for number, unit in enumerate(self._units(images)):
            if self._clips is None or len(unit) == 1:
                pieces.append(_Piece(*self._patches(unit[0]), number))
                continue
            frames = np.stack([np.asarray(picture_of(image)) for image in unit])
            try:
                made = list(clip_patches(frames, self._clips, self._bound))
            except ValueError as error:
                raise SkipStudy("clip-shape", str(error)) from None
            times = pair_times([image.seconds or 0.0 for image in unit])
            pieces += [_Piece(*one, number, time) for one, time in zip(made, times, strict=True)]
        return pieces

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
        arrays = features.arrays
        unit = arrays.get("unit", np.arange(len(arrays["grids"])))
        grids = arrays["grids"][unit < count]
        times = arrays.get("times", np.full(len(unit), np.nan))[unit < count]
        tokens = grids.prod(axis=1) // MERGE**2
        pieces = text.split(IMAGE_MARK)
        for place, time, number in zip(unit.tolist(), times.tolist(), tokens.tolist(), strict=False):
            still = f"{VISION_START}{IMAGE_TOKEN * number}{VISION_END}"
            pieces[place] += still if np.isnan(time) else pair_text(time, number)
        held = slice(0, int(tokens.sum()))
        deep = arrays.get(DEEP)
        return "".join(pieces), SeenTokens(
            arrays["features"][held], grids, ~np.isnan(times), None if deep is None else deep[held]
        )

    def _worded(self, features: Features, request: Request, modality: str, found: Any) -> str:
        images = features.images
        if "leads" in features.arrays:
            images = tuple(one for one, leads in zip(images, features.arrays["leads"], strict=True) if leads)
        return self._dialect.word(request, images, modality)

    def _give(self, seen: Sequence[Any], ids: Any) -> dict[str, Any]:
        return give_features(self._loaded.network, seen, ids) if seen else {}

    def _read(self, text: str, request: Request, features: Features) -> ParsedAnswer:
        if request.task is Task.DETECT and not np.isnan(features.arrays.get("times", np.array([np.nan]))[0]):
            return ParsedAnswer(text.strip())  # a box of a clip names no frame
        if isinstance(self._dialect, LingshuWords) and features.images:
            side = self._loaded.network.config.vision_config.patch_size
            sizes = [(int(rows) * side, int(columns) * side) for _, rows, columns in features.arrays["grids"]]
            return self._dialect.read_resized(text, request, features.images, sizes)
        return super()._read(text, request, features)


def _seeing(loaded: ChatNetwork, model_id: str) -> tuple[GridInputs, Tower]:
    """What the graph of a network's tower is given, and the tower."""
    if loaded.network.config.model_type in QWEN3:
        return shape_of_qwen3(loaded.network), qwen3_tower(loaded, model_id)
    return shape_of_tower(loaded.network), qwen_tower(loaded, model_id)


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
                self.parts |= {
                    f"{task}/weights/{name}": digest for name, digest in weight_digests(folder).items()
                }

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


def open_qwen(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> QwenFamily | PerTaskFamily:
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL family with the weights of ``choice``: one checkpoint, or a folder per task.

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
        return lambda: _seeing(load_checkpoint(entry, one, precision), entry.id)[1]

    found = find_checkpoints(entry, folder)
    return [loader(one) for one in ([found] if isinstance(found, Path) else found.values())]


def open_checkpoint(entry: CatalogEntry, folder: Path, choice: ModelChoice, cache: Path) -> QwenFamily:
    """One checkpoint: merged weights, or a LoRA adapter with its base in the folder ``base`` beside it."""
    dialect = find_dialect(entry, folder)
    return QwenFamily(
        limit_to_words(entry, dialect),
        load_checkpoint(entry, folder, choice.precision),
        dialect,
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )
