"""firstread-mini as a family: one frontal film in, report text, findings and regions out.

Preprocessing: the whole film resized to S x S pixels, antialiased, aspect ratio not kept
(models/networks/mini.py). Coordinates: heat maps of G x G cells over the whole film, so the edge of cell c
lies at c / G of the original's columns; the patient's right is on the left of the image.

Starting from cached graphs needs no torch.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from models.catalog import CatalogEntry
from models.encoder import VisionEncoder, open_encoder
from models.engine import EngineEncoder, open_engine
from models.families import Answer, Features, Request, SeenFinding, SeenImage, Task
from models.families.heat import find_region, sigmoid
from models.families.opening import OpenOptions
from models.graph_cache import Exported, GraphFolder, ensure_graphs
from models.language import OnnxLanguageModel
from models.loading import fixed_pixels, read_self_check, verify_files, verify_outputs
from models.prompts import Prompts, read_prompts
from pipeline.errors import ConfigurationError, SkipStudy, StopRun
from pipeline.report import Language, Side
from pipeline.study import ImageSet, StudyImage

FRONTAL = ("PA", "AP", "")
TOKENIZER_FILE = "tokenizer.json"
UNSIDED = ("cardiomegaly",)
SIDES = (Side.RIGHT, Side.LEFT)
_MODELS = Path(__file__).parents[1]
SOURCES = tuple(
    _MODELS / name
    for name in (
        "connector.py",
        "networks/vision.py",
        "networks/mini.py",
        "families/mini_export.py",
        "decoder_graph.py",
        "encoder.py",
    )
)
"""The sources that shape the graphs."""


def resize_film(image: StudyImage, size: int) -> NDArray[np.float32]:
    """The whole film as [size, size], 0..1: box averages where the size divides evenly, else antialiased bilinear."""
    rows, columns = image.pixels.shape
    even = rows % size == 0 and columns % size == 0
    film = Image.fromarray(np.ascontiguousarray(image.pixels, np.float32))
    resized = film.resize((size, size), Image.Resampling.BOX if even else Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


class MiniFamily:
    """firstread-mini, loaded. See ``models.families.Family``."""

    def __init__(
        self, entry: CatalogEntry, weights: Path, cache: Path, *, require_runner: str = "", threads: int = 0
    ) -> None:
        """Open the weights of ``entry`` in folder ``weights``, with compiled graphs under ``cache``.

        Raises StopRun when weights, graphs or a compiled engine are not what they are said to be, when the
        network does not answer the fixed input as recorded, or when ``require_runner`` cannot be had.
        """
        check = read_self_check(weights)
        with ExitStack() as stack:
            graphs = ensure_mini_graphs(entry, weights, cache)
            self._encoder = stack.enter_context(_open_encoder(graphs, require_runner, threads))
            self._language = stack.enter_context(_open_language(graphs, threads))
            settings = graphs.manifest.exported.settings
            self._size: int = settings["image_size"]
            self._kinds: tuple[str, ...] = tuple(settings["kinds"])
            self._tasks: tuple[str, ...] = tuple(settings["tasks"])
            self._limit: int = settings["max_new_tokens"]
            self._embedding = np.load(graphs.embedding, allow_pickle=False)
            self._tokenizer = Tokenizer.from_file(str(weights / TOKENIZER_FILE))
            prompts = read_prompts(entry.prompts)
            self._prompts = self._encode_prompts(prompts, settings["prompts"])
            self.model_id, self.model_version = entry.id, entry.version
            self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
            self.runner = self._encoder.runner
            self.parts = _parts(graphs, self._encoder, prompts)
            tolerance = self._encoder.manifest.tolerance if isinstance(self._encoder, EngineEncoder) else 0.0
            verify_outputs(check, self._fixed_outputs(), tolerance)
            self._stack = stack.pop_all()

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The frontal film as [1, 1, S, S]. Raises SkipStudy("no-frontal-view") where the study has none."""
        return resize_film(_frontal(study), self._size)[None, None]

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.families.Family``."""
        if not studies:
            return []
        pixels = np.concatenate([self.prepare(study) for study in studies])
        outputs = self._encoder.encode(
            {"pixels": pixels, "task": self._task_index(Task.REPORT, len(studies))}
        )
        return [
            Features(
                (_seen(_frontal(study)),), {name: values[row : row + 1] for name, values in outputs.items()}
            )
            for row, study in enumerate(studies)
        ]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.families.Family``. The same encoder output serves every task of this model."""
        prompts = []
        for one, request in zip(features, requests, strict=True):
            ids = self._prompts.get((request.task, request.language))
            if ids is None:
                message = f"{self.model_id} does not do {request.task} in {request.language}"
                raise ConfigurationError("unsupported-task", message)
            prompts.append(np.concatenate([*one.arrays["features"], self._embedding[ids]]))
        texts = self._language.write(prompts, self._limit)
        return [
            Answer(self._tokenizer.decode(list(text.ids)), text.truncated, *self._see(one))
            for one, text in zip(features, texts, strict=True)
        ]

    def _see(self, features: Features) -> tuple[tuple[SeenFinding, ...], dict[str, float]]:
        """What the heads say: per kind and side, probability and region; and the probability per kind."""
        chance = sigmoid(features.arrays["presence"][0])
        heat, image = features.arrays["heat"][0], features.images[0]
        seen = []
        for index, kind in enumerate(self._kinds):
            present = float(chance[index, 0])
            if kind in UNSIDED:
                seen.append(SeenFinding(kind, None, present, find_region(heat[index], None, image)))
                continue
            for place, side in enumerate(SIDES, 1):
                region = find_region(heat[index], side, image)
                seen.append(SeenFinding(kind, side, present * float(chance[index, place]), region))
        return tuple(seen), {kind: float(chance[index, 0]) for index, kind in enumerate(self._kinds)}

    def _task_index(self, task: Task, count: int) -> NDArray[np.int64]:
        return np.full(count, self._tasks.index(task), np.int64)

    def _encode_prompts(
        self, prompts: Prompts, trained: Mapping[str, Sequence[int]]
    ) -> dict[tuple[Task, Language], list[int]]:
        """Token ids of every prompt. Raises StopRun where they are not the ones that the network was trained on."""
        encoded = {
            (task, language): list(self._tokenizer.encode(text).ids)
            for (task, language), text in prompts.texts.items()
            if f"{task}/{language}" in trained
        }
        for (task, language), ids in encoded.items():
            if ids != list(trained.get(f"{task}/{language}", ())):
                raise StopRun(
                    "prompts", f"the {task} prompt is not the one that these weights were trained on"
                )
        return encoded

    def _fixed_outputs(self) -> dict[str, NDArray[Any]]:
        """The answer to the self-check's input, from the runners that will draft."""
        pixels = fixed_pixels((2, 1, self._size, self._size))
        outputs = self._encoder.encode({"pixels": pixels, "task": self._task_index(Task.REPORT, 2)})
        prompt = self._embedding[self._prompts[Task.REPORT, Language.ENGLISH]]
        joined = [np.concatenate([features, prompt]) for features in outputs["features"]]
        return {**outputs, "logits": self._language.first_logits(joined)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def open_mini(entry: CatalogEntry, options: OpenOptions) -> MiniFamily:
    """The adapter's opener (``models.families.opening.ADAPTERS``)."""
    return MiniFamily(
        entry,
        options.folder(entry),
        options.cache,
        require_runner=options.require_runner,
        threads=options.threads,
    )


def _frontal(study: ImageSet) -> StudyImage:
    for image in study.images:
        if image.view in FRONTAL:
            return image
    raise SkipStudy("no-frontal-view", "the study has no frontal film, the only view this model reads")


def _seen(image: StudyImage) -> SeenImage:
    return SeenImage(image.ref, image.frame, image.original_rows, image.original_columns)


def ensure_mini_graphs(entry: CatalogEntry, weights: Path, cache: Path) -> GraphFolder:
    """The verified graphs of verified weights, exported where the cache does not hold them. Raises StopRun."""
    check = read_self_check(weights)
    verify_files(weights, check)

    def export(folder: Path) -> Exported:
        from models.families.mini_export import (
            export_graphs,
        )  # needs torch, and only a first start needs that

        return export_graphs(weights, folder)

    return ensure_graphs(cache, entry.id, check.files, SOURCES, export)


def _open_encoder(graphs: GraphFolder, require_runner: str, threads: int) -> VisionEncoder:
    def engine() -> EngineEncoder | None:
        return open_engine(graphs.folder, graphs.manifest.weights, "tensorrt")

    return open_encoder(graphs.encoder, require_runner=require_runner, threads=threads, engine=engine)


def _open_language(graphs: GraphFolder, threads: int) -> OnnxLanguageModel:
    exported = graphs.manifest.exported
    if exported.decoder is None:
        raise StopRun("graphs", f"{graphs.folder} holds no decoder; delete that folder")
    table = np.load(graphs.embedding, allow_pickle=False)
    return OnnxLanguageModel(
        graphs.decoder, table, exported.decoder, exported.settings["end"], threads=threads
    )


def _parts(graphs: GraphFolder, encoder: VisionEncoder, prompts: Prompts) -> dict[str, str]:
    manifest = graphs.manifest
    parts = {f"weights/{name}": digest for name, digest in manifest.weights.items()}
    parts |= {f"graph/{name}": digest for name, digest in manifest.graphs.items()}
    parts |= {"runner": encoder.runner, "precision": "fp32", "onnxruntime": onnxruntime.__version__}
    parts["prompts"] = prompts.digest
    if isinstance(encoder, EngineEncoder):
        parts["engine"] = encoder.manifest.engine_sha256
        parts["precision"] = encoder.manifest.precision
        parts[encoder.manifest.product] = encoder.manifest.product_version
    return parts
