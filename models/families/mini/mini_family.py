"""firstread-mini as a family: a frontal film in, with a lateral and a prior one where there are; answers out.

Preprocessing: the whole film resized to S x S pixels, antialiased, aspect ratio not kept
(models/networks/mini.py). Coordinates: heat maps of G x G cells over the whole film, so the edge of cell c
lies at c / G of the original's columns; the patient's right is on the left of the image. Boxes and points of the
heads and of the text are shares or hundredths of the whole film. A lateral film is read with the front of the patient
on the left, so a right lateral (RL) is mirrored. A prior film is a frontal one.

Starting from cached graphs needs no torch.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from models.batches import PartlyEncoded
from models.catalog import CatalogEntry
from models.families.mini.certainty import RealReader, Shown, join_possible, split_possible, write_certain
from models.families.mini.films import ABNORMAL, Reading, thumbnail_and_histogram
from models.families.mini.heat import find_region, sigmoid
from models.families.mini.int8 import check_precision, open_small_encoder
from models.families.mini.joining import READ, fixed_joining
from models.families.mini.outlines import measure_outlines
from models.families.mini.places import Places, write_places
from models.families.mini.prompts import label_key, prompt_for, read_answer, region_box
from models.family import Answer, Features, Request, SeenFinding, SeenImage, Task, unsupported
from models.model_choice import ModelChoice
from models.prompts import Prompts, read_prompts
from models.runners.encoder import EXPORT_SOURCES, OnnxEncoder, VisionEncoder, open_encoder
from models.runners.engine import EngineEncoder, open_best_engine
from models.runners.graph_cache import Exported, GraphFolder, ensure_graphs
from models.runners.language import OnnxLanguageModel
from models.runners.openvino_encoder import RUNNER as OPENVINO
from models.runners.openvino_encoder import demand_openvino, openvino_parts
from models.runners.quantize import INT8_TOLERANCE
from models.vocabulary.task_words import NORMAL
from models.weight_loading.verified import fixed_pixels, read_self_check, verify_files, verify_outputs
from pipeline.errors import FailStudy, SkipStudy, StopRun
from pipeline.report import Label, Region, Side
from pipeline.study import LATERAL_VIEWS, TAKEN_AS_FRONTAL, ImageSet, StudyImage, View

TOKENIZER_FILE, UNKNOWN = "tokenizer.json", "<unk>"
BATCHES_TOGETHER = 2
"""Calls of ``answer`` at once: the second one's texts fill the batch while the longest of the first end."""
UNSIDED = ("cardiomegaly",)
SIDES = (Side.RIGHT, Side.LEFT)
_MODELS = Path(__file__).parents[2]
SOURCES = (
    *(
        _MODELS / name
        for name in (
            "networks/connector.py",
            "networks/vision.py",
            "networks/heads.py",
            "networks/outlines.py",
            "networks/label_net.py",
            "networks/mini.py",
            "families/mini/export.py",
            "families/mini/joining.py",
            "runners/decoder_graph.py",
        )
    ),
    *EXPORT_SOURCES,
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
    """firstread-mini, loaded. See ``models.family.Family``."""

    def __init__(
        self,
        entry: CatalogEntry,
        weights: Path,
        cache: Path,
        *,
        require_runner: str = "",
        threads: int = 0,
        precision: str = "auto",
    ) -> None:
        """Open the weights of ``entry`` in folder ``weights``, with compiled graphs under ``cache``.

        ``precision`` "int8" runs the encoder in 8 bits on the CPU, "auto" is "fp32". Raises ConfigurationError for
        another one, StopRun when weights, graphs or a compiled engine are not what they are said to be, when the
        network does not answer the fixed input as recorded, or when ``require_runner`` cannot be had.
        """
        check_precision(precision, require_runner)
        check = read_self_check(weights)
        with ExitStack() as stack:
            graphs = ensure_mini_graphs(entry, weights, cache)
            encoder, parts, tolerance = _open_encoder(graphs, require_runner, threads, precision)
            self._encoder = stack.enter_context(encoder)
            self._joiner = stack.enter_context(OnnxEncoder(graphs.joiner, threads=threads))
            self._language = stack.enter_context(_open_language(graphs, threads))
            settings = graphs.manifest.exported.settings
            self._size, self._limit = int(settings["image_size"]), int(settings["max_new_tokens"])
            self._kinds, self._tasks = tuple(settings["kinds"]), tuple(settings["tasks"])
            self._embedding = np.load(graphs.embedding, allow_pickle=False)
            self._real = RealReader.of(weights)
            self._tokenizer = Tokenizer.from_file(str(weights / TOKENIZER_FILE))
            self.model_id, self.model_version = entry.id, entry.version
            self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
            self.traits = replace(entry.traits, reads_priors=True, batches_together=BATCHES_TOGETHER)
            prompts = read_prompts(entry.prompts)
            self._film_tokens, self._positions = int(settings["film_tokens"]), int(settings["positions"])
            self._fixed_prompt: tuple[int, ...] = tuple(settings["prompts"]["report/en"])
            self._check_prompts(prompts, settings["prompts"])
            self.runner = self._encoder.runner
            self.parts = {**_parts(graphs, prompts), "runner": self.runner, **parts}
            verify_outputs(check, self._fixed_outputs(), tolerance)
            self._stack = stack.pop_all()

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The frontal film, then the lateral and the prior one where there are, as [1..3, 1, S, S].

        Raises SkipStudy("no-frontal-view") where the study has no frontal film.
        """
        films = _films(study)
        shown = [None if film is None else resize_film(film, self._size) for film in films]
        if films[1] is not None and films[1].view == View.RL and shown[1] is not None:
            shown[1] = np.ascontiguousarray(shown[1][:, ::-1])
        return np.stack([film for film in shown if film is not None])[:, None]

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        if not studies:
            return []
        films = [_films(study) for study in studies]
        pixels = [self.prepare(study) for study in studies]
        outputs = self._encoder.encode({"pixels": np.concatenate(pixels)})
        starts = np.cumsum([0, *(len(one) for one in pixels)])
        given: list[Features | SkipStudy] = []
        for (frontal, lateral, prior), (start, end) in zip(films, pairwise(starts.tolist()), strict=True):
            if self._real.domain and (refusal := self._real.domain.refusal(outputs["pooled"][start:end])):
                given.append(refusal)
                continue
            arrays = {name: values[start : start + 1] for name, values in outputs.items()}
            beside = start + 1 if lateral is not None else start
            before = beside + 1 if prior is not None else start
            arrays["side"] = outputs["presence"][beside : beside + 1]
            shown = pixels[len(given)][:1, 0]
            arrays["thumbnail"] = thumbnail_and_histogram(shown)
            arrays["measures"] = measure_outlines(arrays.pop("outlines"), shown)
            arrays["sided"] = np.array([lateral is not None], np.float32)
            arrays["before"] = outputs["state"][before : before + 1]
            arrays["compared"] = np.array([prior is not None], np.float32)
            seen = tuple(_seen(film) for film in (frontal, lateral) if film is not None)
            given.append(Features(seen, arrays))
        if len(features := [one for one in given if isinstance(one, Features)]) < len(given):
            raise PartlyEncoded(given)
        return features

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``. What was encoded serves every task of this model."""
        asked = [self._ask(one, request) for one, request in zip(features, requests, strict=True)]
        films = self.embeddings(features, requests)
        prompts = [
            np.concatenate([film, self._embedding[ids]]) for film, ids in zip(films, asked, strict=True)
        ]
        texts = self._language.write(prompts, self._limit)
        return [
            self._answer(one, request, self._tokenizer.decode(list(text.ids)), text.truncated)
            for one, request, text in zip(features, requests, texts, strict=True)
        ]

    def embeddings(
        self, features: Sequence[Features], requests: Sequence[Request]
    ) -> list[NDArray[np.float32]]:
        """What stands before each prompt, [t, width]: the films' tokens, and the region's where one is asked about."""
        joined = self._join(features, requests)
        films = []
        for film, region, request in zip(joined["film"], joined["region_token"], requests, strict=True):
            parts = [film[:0] if request.task is Task.SUMMARIZE else film]
            films.append(np.concatenate([*parts, region] if request.task is Task.IDENTIFY else parts))
        return films

    def _ask(self, features: Features, request: Request) -> list[int]:
        """The token ids of a prompt."""
        if request.task not in self.tasks or request.language not in self.languages:
            raise unsupported(self.model_id, request)
        if not features.arrays:
            raise FailStudy(
                "no-film", "this model answers about a film, its text too; name the study's images"
            )
        if request.task is Task.SUMMARIZE:
            request = replace(request, text=split_possible(request.text, request.language.value)[0])
        encoded = self._tokenizer.encode(prompt_for(request, features.images[0] if features.images else None))
        if UNKNOWN in encoded.tokens:
            raise FailStudy(
                "unknown-words", "the text holds words that this model does not know; a person has to look"
            )
        if len(encoded.ids) + self._film_tokens + 1 + self._limit > self._positions:
            raise FailStudy("text-too-long", "the text is longer than this model reads; shorten it")
        return list(encoded.ids)

    def _join(self, features: Sequence[Features], requests: Sequence[Request]) -> dict[str, NDArray[Any]]:
        """Embeddings of the films, for the task of each request."""
        inputs = {
            name: np.concatenate([one.arrays[name] for one in features])
            for name in (*READ, "side", "sided", "before", "compared")
        }
        inputs["task"] = np.array([self._tasks.index(request.task) for request in requests], np.int64)
        inputs["box"] = np.zeros((len(requests), 4), np.float32)
        for row, (one, request) in enumerate(zip(features, requests, strict=True)):
            if request.task is Task.IDENTIFY:
                inputs["box"][row] = np.array(region_box(request.region, one.images[0]), np.float32) / 100
        return self._joiner.encode(inputs)

    def _answer(self, features: Features, request: Request, text: str, truncated: bool) -> Answer:
        image = features.images[0] if features.images else None
        reading = self._read_real(features)
        if request.task is Task.SUMMARIZE:
            language = request.language.value
            text = join_possible(text, split_possible(request.text, language)[1], language)
        elif image is not None:
            prompt = prompt_for(request, image)
            places = Places(
                *(features.arrays[name][0] for name in ("boxes", "organs", "landmarks", "presence"))
            )
            text = write_places(prompt, text, places)
            if reading is not None and not truncated:
                graded = (features.arrays[name][0] for name in ("severity", "zone"))
                text = write_certain(prompt, text, Shown(reading, places, *graded))
        labels, told = read_answer(request, text, image)
        seen, chances = self._see(features, reading)
        if labels and request.task is Task.CLASSIFY:
            abnormal = max(chances.values()) if reading is None else reading.chances[ABNORMAL]
            scores = {**chances, NORMAL: 1 - abnormal}
            labels = tuple(
                Label(label.name, label.chosen, scores.get(label_key(label.name))) for label in labels
            )
        return Answer(text, truncated, seen, chances, labels, told)

    def _read_real(self, features: Features) -> Reading | None:
        """What real labelled films say of the frontal film; None where it looks simulated, or there is no rule."""
        if not features.arrays:
            return None
        return self._real.read(features.arrays)[0]

    def _see(
        self, features: Features, reading: Reading | None
    ) -> tuple[tuple[SeenFinding, ...], dict[str, float]]:
        """Per kind and side, probability and region; and the probability per kind: by ``reading`` where it has one."""
        chance = sigmoid(features.arrays["presence"][0])
        if reading is not None:
            for row, kind in enumerate(self._kinds):
                chance[row, 0] = reading.chances.get(kind, chance[row, 0])
        heat, image = features.arrays["heat"][0], features.images[0]
        boxes = features.arrays["boxes"][0].reshape(len(self._kinds), len(SIDES), 4)
        seen = []
        for index, kind in enumerate(self._kinds):
            present = float(chance[index, 0])
            if kind in UNSIDED:
                region = _region(boxes[index, 0], image) if find_region(heat[index], None, image) else None
                seen.append(SeenFinding(kind, None, present, region))
                continue
            for place, side in enumerate(SIDES, 1):
                shown = find_region(heat[index], side, image) is not None
                region = _region(boxes[index, place - 1], image) if shown else None
                seen.append(SeenFinding(kind, side, present * float(chance[index, place]), region))
        return tuple(seen), {kind: float(chance[index, 0]) for index, kind in enumerate(self._kinds)}

    def _check_prompts(self, prompts: Prompts, trained: Mapping[str, Sequence[int]]) -> None:
        """Raises StopRun where a prompt does not begin with the tokens that the network was trained on."""
        for task in self.tasks:
            for language in self.languages:
                ids = list(self._tokenizer.encode(prompts.texts.get((task, language), "")).ids)
                wanted = list(trained.get(f"{task}/{language}", ()))
                if not wanted or ids[: len(wanted)] != wanted:
                    raise StopRun(
                        "prompts", f"the {task} prompt is not the one that these weights were trained on"
                    )

    def _fixed_outputs(self) -> dict[str, NDArray[Any]]:
        """The answer to the self-check's input, from the runners that will draft."""
        outputs = self._encoder.encode({"pixels": fixed_pixels((2, 1, self._size, self._size))})
        joined = self._joiner.encode(fixed_joining(outputs))
        prompt = self._embedding[list(self._fixed_prompt)]
        rows = [np.concatenate([film, prompt]) for film in joined["film"]]
        return {**outputs, **joined, "logits": self._language.first_logits(rows)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def open_mini(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> MiniFamily:
    """The adapter's opener (``models.families.registry.ADAPTERS``)."""
    return MiniFamily(
        entry,
        choice.folder(entry),
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        precision=choice.precision,
    )


def _films(study: ImageSet) -> tuple[StudyImage, StudyImage | None, StudyImage | None]:
    """The frontal film, the lateral and the prior frontal one. Raises SkipStudy where there is no frontal film."""
    frontal = next((image for image in study.images if image.view in TAKEN_AS_FRONTAL), None)
    if frontal is None:
        raise SkipStudy(
            "no-frontal-view", "the study has no frontal film, and this model reads no other alone"
        )
    lateral = next((image for image in study.images if image.view in LATERAL_VIEWS), None)
    return frontal, lateral, next((image for image in study.priors if image.view in TAKEN_AS_FRONTAL), None)


def _region(box: NDArray[np.float32], image: SeenImage) -> Region | None:
    """A box of shares of the film in pixels of the original; None for one without an area."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if not (x0 < x1 and y0 < y1):
        return None
    return Region(
        image.ref, image.frame, x0 * image.columns, y0 * image.rows, x1 * image.columns, y1 * image.rows
    )


def _seen(image: StudyImage) -> SeenImage:
    return SeenImage(image.ref, image.frame, image.original_rows, image.original_columns)


def ensure_mini_graphs(entry: CatalogEntry, weights: Path, cache: Path) -> GraphFolder:
    """The verified graphs of verified weights, exported where the cache does not hold them. Raises StopRun."""
    check = read_self_check(weights)
    verify_files(weights, check)

    def export(folder: Path) -> Exported:
        from models.families.mini.export import (
            export_graphs,  # needs torch, and only a first start needs that
        )

        return export_graphs(weights, folder)

    return ensure_graphs(cache, entry.id, check.files, SOURCES, export)


def _open_encoder(
    graphs: GraphFolder, require_runner: str, threads: int, precision: str
) -> tuple[VisionEncoder, dict[str, str], float]:
    """The encoder, what of it belongs into the recipe, and how far it may be from the recorded self-check."""
    if precision == "int8":
        size = graphs.manifest.exported.settings["image_size"]
        small, parts = open_small_encoder(graphs.encoder, size, threads)
        return small, parts, INT8_TOLERANCE

    def engine() -> VisionEncoder | None:
        if require_runner == OPENVINO:
            size = int(graphs.manifest.exported.settings["image_size"])
            film = {"pixels": fixed_pixels((1, 1, size, size))}
            return demand_openvino(graphs.encoder, lambda: film, threads=threads)
        return open_best_engine(graphs.folder, graphs.manifest.weights, require_runner)

    encoder = open_encoder(graphs.encoder, require_runner=require_runner, threads=threads, engine=engine)
    if not isinstance(encoder, EngineEncoder):
        return encoder, {"precision": "fp32"} | openvino_parts(encoder), 0.0
    manifest = encoder.manifest
    parts = {"engine": manifest.engine_sha256, "precision": manifest.precision}
    return encoder, parts | {manifest.product: manifest.product_version}, manifest.tolerance


def _open_language(graphs: GraphFolder, threads: int) -> OnnxLanguageModel:
    exported = graphs.manifest.exported
    if exported.decoder is None:
        raise StopRun("graphs", f"{graphs.folder} holds no decoder; delete that folder")
    table = np.load(graphs.embedding, allow_pickle=False)
    return OnnxLanguageModel(
        graphs.decoder, table, exported.decoder, exported.settings["end"], threads=threads
    )


def _parts(graphs: GraphFolder, prompts: Prompts) -> dict[str, str]:
    manifest = graphs.manifest
    parts = {f"weights/{name}": digest for name, digest in manifest.weights.items()}
    parts |= {f"graph/{name}": digest for name, digest in manifest.graphs.items()}
    return parts | {"onnxruntime": onnxruntime.__version__, "prompts": prompts.digest}
