"""Uni-Med, loaded: one image a study, one prompt a request.

The connector routes by task, so the features of an image differ from task to task. ``encode`` gives those of the
report and keeps the prepared pixels; another task's are made when it is asked.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from models.catalog import CatalogEntry
from models.families.decoding import Decoding, read_decoding
from models.families.prompt_proof import prove_prompt
from models.families.towers import SHAPING, Tower, open_tower
from models.families.uni_med.questions import (
    AFTER_IMAGE,
    BEFORE_IMAGE,
    END,
    START,
    TASK_OF,
    read_class,
    read_places,
    word_instruction,
)
from models.family import Answer, Features, Request, SeenImage, Task, unsupported
from models.model_choice import ModelChoice
from models.prompts import read_prompts
from models.runners.encoder import EncoderSource
from models.runners.language import TransformersLanguageModel
from models.runners.written_text import WrittenText
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.placement import choose_placing
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy, StopRun
from pipeline.study import FRONTAL_VIEWS, ImageSet, StudyImage

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
PIXELS, FEATURES, MODALITY = "pixels", "features", "modality"
Floats = NDArray[np.float32]
_MODELS = Path(__file__).parents[2]
SOURCES = tuple(
    _MODELS / name
    for name in (
        "networks/connector.py",
        "networks/eva_vit.py",
        "networks/uni_med.py",
        "families/uni_med/export.py",
    )
)
"""The sources that shape the graph, beside those of every tower."""


def choose_image(study: ImageSet) -> StudyImage:
    """The one image that the model reads: a frontal film where there is one, else the first image."""
    if not study.images:
        raise SkipStudy("no-image", "the study has no image that this model reads")
    frontal = [image for image in study.images if image.view in FRONTAL_VIEWS]
    return (frontal or list(study.images))[0]


def squash(pixels: Floats, size: int) -> NDArray[np.uint8]:
    """The whole image, 0..1, as uint8 [size, size], bicubic, aspect ratio not kept."""
    grey = Image.fromarray(np.round(pixels.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(grey.resize((size, size), Image.Resampling.BICUBIC))


def normalise(grey: NDArray[np.uint8]) -> Floats:
    """Grey values [n, size, size] as the tower takes them: three like channels, less CLIP's mean, over its
    deviation."""
    scaled = grey[:, None].astype(np.float32) / 255
    mean, deviation = (np.array(part, np.float32)[None, :, None, None] for part in (MEAN, DEVIATION))
    return ((scaled - mean) / deviation).astype(np.float32)


class UniMedFamily:
    """Uni-Med, loaded. See ``models.family.Family``."""

    def __init__(
        self,
        entry: CatalogEntry,
        folder: Path,
        cache: Path,
        *,
        require_runner: str = "",
        threads: int = 0,
        precision: str = "auto",
    ) -> None:
        """Open a folder as ``models.networks.uni_med`` describes it, its graph kept under ``cache``.

        Raises StopRun when weights, graph or tokenizer are not what they are said to be, or ``require_runner`` cannot
        be had.
        """
        from models.networks.uni_med import TASKS, read_config
        from models.networks.uni_med_language import load_language
        from models.runners.packed_products import pack_language

        self._config, self._tasks = read_config(folder), TASKS
        files, placing = weight_files(folder), choose_placing(precision)
        tower = uni_med_tower(entry, folder, files)
        with ExitStack() as stack:
            encoder, parts = open_tower(tower, cache, require_runner, threads)
            self._encoder = stack.enter_context(encoder)
            network, self._tokenizer = load_language(folder, placing)
            self._check_language(network)
            self.proved = self._prove(folder)
            self._network, self._end = network, int(self._tokenizer.eos_token_id)
            packed = pack_language(network)
            self._table = network.get_input_embeddings()
            self._language = TransformersLanguageModel(network, self._end, pad=self._end)
            self._stack = stack.pop_all()
        prompts = read_prompts(entry.prompts)
        self._prompts = prompts
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
        self.traits, self.runner = entry.traits, self._encoder.runner
        self.parts = {f"weights/{name}": digest for name, digest in files.items()}
        self.parts |= {"runner": self.runner, "onnxruntime": onnxruntime.__version__} | placing.parts | packed
        self.parts |= {"prompts": prompts.digest, "film": "as stored"} | parts
        self._lock = Lock()

    def _check_language(self, network: Any) -> None:
        if network.config.hidden_size != self._config.language_width:
            raise StopRun(
                "weights", "language model and connector have different widths; they do not belong together"
            )
        if self._tokenizer.bos_token_id is None or self._tokenizer.eos_token_id is None:
            raise StopRun("tokenizer", "the language model's tokenizer names no start or no end token")
        if len(self._tokenizer) > network.get_input_embeddings().num_embeddings:
            raise StopRun(
                "tokenizer", "the tokenizer has more tokens than the network; they do not belong together"
            )

    def _prove(self, folder: Path) -> dict[str, str]:
        """Prove the empty prompt on the tokenizer; what was found, in words.

        Raises StopRun where it reads other words, ConfigurationError where the folder asks for another decoding.
        """
        from models.networks.uni_med import LANGUAGE_FOLDER

        decoding = read_decoding(folder / LANGUAGE_FOLDER)
        if decoding.words != Decoding().words:
            message = f"{LANGUAGE_FOLDER}/generation_config.json asks for {decoding.words}: its authors decode greedily"
            raise ConfigurationError("generation-config", message)
        parts = self.prompt_ids("", image=True)
        text = f"{BEFORE_IMAGE}{AFTER_IMAGE}{END}"
        prove_prompt(self._tokenizer, text, [one for part in parts for one in part], blanks=True)
        return {
            "tokens": f"the prompt without a question is {len(parts[0])} and {len(parts[1])} tokens around the image",
            "chat template": "not used: these weights are asked in their authors' own words",
            "decoding": decoding.told,
        }

    def prepare(self, study: ImageSet) -> Floats:
        """The chosen image as [1, 3, size, size]. Raises SkipStudy where the study has none."""
        return normalise(squash(choose_image(study).pixels, self._config.vision.image_size)[None])

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        if not studies:
            return []
        images = [choose_image(study) for study in studies]
        grey = np.stack([squash(image.pixels, self._config.vision.image_size) for image in images])
        features = self._encode(grey, [TASK_OF[Task.REPORT]] * len(grey))
        return [
            Features(
                (SeenImage(image.ref, image.frame, image.original_rows, image.original_columns),),
                {
                    FEATURES: features[row : row + 1],
                    PIXELS: grey[row : row + 1],
                    MODALITY: np.array([image.modality]),
                },
            )
            for row, image in enumerate(images)
        ]

    def _encode(self, grey: NDArray[np.uint8], tasks: Sequence[str]) -> Floats:
        index = np.array([self._tasks.index(task) for task in tasks], np.int64)
        outputs: Floats = self._encoder.encode({"pixels": normalise(grey), "task": index})["features"]
        return outputs

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``."""
        pairs = list(zip(features, requests, strict=True))
        instructions = [self._instruction(one, request) for one, request in pairs]
        visual = self._visual(pairs)
        prompts = [self._join(*joined) for joined in zip(instructions, visual, strict=True)]
        with self._lock:
            texts = self._language.write(prompts, self._config.max_new_tokens) if prompts else []
        return [self._read(*joined) for joined in zip(features, requests, texts, strict=True)]

    def _instruction(self, features: Features, request: Request) -> str:
        template = self._prompts.texts.get((request.task, request.language))
        if template is None or request.task not in self.tasks or request.language not in self.languages:
            does = ", ".join(sorted(self.tasks))
            raise unsupported(self.model_id, request, f"it does {does}")
        image = features.images[0] if features.images else None
        if image is None and request.task in TASK_OF:
            raise FailStudy("no-image", f"{request.task} needs the image of the study")
        modality = str(features.arrays[MODALITY][0]) if image is not None else ""
        return word_instruction(template, request, image, modality)

    def _visual(self, pairs: Sequence[tuple[Features, Request]]) -> list[Floats | None]:
        """The visual tokens of each pair, for its task; None for a question without an image."""
        visual: list[Floats | None] = [None] * len(pairs)
        other = []
        for row, (features, request) in enumerate(pairs):
            if request.task is Task.REPORT:
                visual[row] = features.arrays[FEATURES][0]
            elif request.task in TASK_OF:
                other.append(row)
        if other:
            grey = np.concatenate([pairs[row][0].arrays[PIXELS] for row in other])
            made = self._encode(grey, [TASK_OF[pairs[row][1].task] for row in other])
            for row, tokens in zip(other, made, strict=True):
                visual[row] = tokens
        return visual

    def prompt_ids(self, instruction: str, *, image: bool) -> list[list[int]]:
        """Token ids before and after the image, one list where there is none.

        One start token, as in training; the published evaluation had two, because its template spelt one out and its
        tokenizer added another. The parts are read apart, as there: a part's first token carries a space of its own.
        """
        parts = (
            [BEFORE_IMAGE, f"{AFTER_IMAGE}{instruction}{END}"] if image else [f"{START}{instruction}{END}"]
        )
        ids = [list(self._tokenizer(part, add_special_tokens=False).input_ids) for part in parts]
        ids[0].insert(0, int(self._tokenizer.bos_token_id))
        return ids

    def _join(self, instruction: str, visual: Floats | None) -> Floats:
        parts = [self._embed(ids) for ids in self.prompt_ids(instruction, image=visual is not None)]
        joined = np.concatenate(parts if visual is None else [parts[0], visual, parts[1]])
        room = self._network.config.max_position_embeddings - self._config.max_new_tokens
        if len(joined) > room:
            message = f"the request takes {len(joined)} positions and {self.model_id} has room for {room}: shorten it"
            raise FailStudy("text-too-long", message)
        return joined

    def _embed(self, ids: Sequence[int]) -> Floats:
        import torch

        with torch.inference_mode():
            embedded: Floats = (
                self._table(torch.tensor(ids, device=self._network.device)).float().cpu().numpy()
            )
        return embedded

    def _read(self, features: Features, request: Request, written: WrittenText) -> Answer:
        text = (
            self._tokenizer.decode(list(written.ids), skip_special_tokens=True).split(END.strip())[-1].strip()
        )
        labels = read_class(text, request.labels) if request.task is Task.CLASSIFY else ()
        if request.options and request.task in (Task.VQA, Task.TEXT_QA):
            labels = read_class(text, request.options)
        detects = request.task is Task.DETECT
        places = read_places(text, request.target, features.images[0]) if detects else ()
        return Answer(text, written.truncated, labels=labels, places=places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for part in ("_network", "_language", "_table"):
            vars(self).pop(part, None)  # closing twice is allowed
        gc.collect()


def weight_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the family reads, by its path in the folder. Raises StopRun where one is missing."""
    from models.networks.uni_med import ADAPTER_FOLDER, CONFIG_FILE, LANGUAGE_FOLDER, WEIGHTS_FILE

    paths = [folder / CONFIG_FILE, folder / WEIGHTS_FILE]
    for name in (LANGUAGE_FOLDER, ADAPTER_FOLDER):
        if (folder / name).is_dir():
            paths += sorted(
                path
                for path in (folder / name).iterdir()
                if path.suffix in (".safetensors", ".json", ".model")
            )
    return {str(path.relative_to(folder)): weight_digest(path) for path in paths}


def uni_med_tower(entry: CatalogEntry, folder: Path, files: Mapping[str, str]) -> Tower:
    """The encoder of a weights folder whose files are ``files``; it is read from there when it is needed."""
    from models.families.uni_med.export import encoder_source  # needs torch
    from models.networks.uni_med import WEIGHTS_FILE, load_encoder

    def source() -> EncoderSource:
        return encoder_source(load_encoder(folder))

    def running() -> EncoderSource:
        import torch

        return encoder_source(load_encoder(folder).to("cuda" if torch.cuda.is_available() else "cpu"))

    return Tower(
        entry.id,
        {name: digest for name, digest in files.items() if "/" not in name},
        (*SHAPING, *SOURCES),
        source,
        running,
        (folder / WEIGHTS_FILE).stat().st_size,
    )


def uni_med_towers(entry: CatalogEntry, folder: Path, _precision: str) -> list[Callable[[], Tower]]:
    """A loader of the one tower of a folder of weights. It raises StopRun."""
    return [lambda: uni_med_tower(entry, folder, weight_files(folder))]


def open_uni_med(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> UniMedFamily:
    """The family of a catalogue entry with the weights of ``choice``."""
    return UniMedFamily(
        entry,
        choice.folder(entry),
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        precision=choice.precision,
    )
