"""An image and text network as a family: MedRegA, LLaVA-Med, MedGemma.

The images go through the exported encoder, the text through the network's own ``generate``, which is given the features
in place of pixels: greedy, in batches, rows of unequal length filled up on the left.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog import CatalogEntry
from models.drafting.structured import JsonConstraint, read_structured, report_schema
from models.families.decoding import read_decoding
from models.families.native.dialect import IMAGE_MARK, Dialect, ParsedAnswer
from models.families.native.llava_med import LlavaMedDialect
from models.families.native.medgemma import MedGemmaDialect, pads
from models.families.native.medrega import MedRegaDialect
from models.families.native.networks import ChatNetwork, load_llava_med, load_medgemma, load_medrega
from models.families.native.proof import end_tokens, prove_words
from models.families.native.seeing import chat_tower
from models.families.prompt_proof import tokens_of
from models.families.reasoning import Parted, keep, opens_reasoning, part_reasoning
from models.families.text.writing import OwnTokensPenalty, until_end
from models.families.towers import Tower, open_tower
from models.family import TEXT_TASKS, Answer, Features, Request, SeenImage, Task, unsupported
from models.model_choice import ModelChoice
from pipeline.errors import FailStudy, SkipStudy
from pipeline.study import FRONTAL_VIEWS, ImageSet, StudyImage

LIMITS = {Task.VQA: 128, Task.CLASSIFY: 128}
LIMIT = 400
"""New tokens at most; MedRegA's own setting."""
AT_ONCE = 32
"""Images that go through the encoder together: a series has more."""
REASONING_LIMIT = 1024
"""Where reasoning stands before the answer (CheXOne's own setting), and for structured answers."""


class ChatFamily:
    """See ``models.family.Family``."""

    def __init__(
        self,
        entry: CatalogEntry,
        loaded: ChatNetwork,
        dialect: Dialect,
        cache: Path,
        *,
        require_runner: str = "",
        threads: int = 0,
        limit: int = 0,
        batch: int = 16,
        release: bool = False,
    ) -> None:
        """Open the encoder of ``loaded`` under ``cache``. ``limit`` caps the new tokens of every answer where given.

        ``release`` lets the tower in ``loaded`` go where a graph runs instead (``open_tower``).

        Raises StopRun for an unsound graph or an unmet runner.
        """
        self._loaded, self._dialect, self._batch, self._limit = loaded, dialect, batch, limit
        self._entry = entry
        self._decoding = read_decoding(loaded.folder, greedy=dialect.greedy)
        if dialect.repetition_penalty is not None:
            self._decoding = replace(self._decoding, penalty=dialect.repetition_penalty)
        self.proved = prove_words(loaded, dialect, self._decoding)
        from models.runners.packed_products import pack_language  # torch takes seconds

        with ExitStack() as stack:
            tower = self._tower(loaded)
            encoder, parts = open_tower(tower, cache, require_runner, threads, release=release)
            self._encoder = stack.enter_context(encoder)
            self._stack = stack.pop_all()
        packed = pack_language(loaded.network)
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks, self.languages = frozenset(entry.tasks), frozenset(entry.languages)
        self.traits, self.runner = entry.traits, self._encoder.runner
        self.parts = {f"weights/{name}": digest for name, digest in loaded.files.items()} | parts
        self.parts |= {"runner": self.runner, "prompts": dialect.digest}
        self.parts |= loaded.placing.parts | packed
        self._ends = end_tokens(loaded, dialect, self._decoding)
        self.parts |= {"decoding": self._decoding.words, **loaded.settings}
        self.parts |= {"film": "as stored"} if entry.whole_film else {}
        self._opened = opens_reasoning(dialect.frame(""))
        self._pads = isinstance(dialect, MedGemmaDialect) and Task.DETECT in self.tasks
        self._constraint: JsonConstraint | None = None
        self._lock = Lock()

    def _tower(self, loaded: ChatNetwork) -> Tower:
        return chat_tower(loaded, self._entry.id)

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The study's images [n, 3, S, S], a frontal film first. Raises SkipStudy where it has none."""
        return self._pixels([picture_of(image) for image in self._choose(study)])

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        if not studies:
            return []
        chosen = [self._choose(study) for study in studies]
        pixels = [self._pixels([picture_of(image) for image in images]) for images in chosen]
        rows = self._encoded(np.concatenate(pixels))
        encoded, start = [], 0
        for images in chosen:
            arrays: dict[str, NDArray[Any]] = {
                "features": rows[start : start + len(images)],
                "modality": np.array([image.modality for image in images]),
            }
            if self._pads:
                films = [self._padded(image) for image in images if image.pixels.ndim == 2]
                arrays["padded"] = np.stack(films) if films else np.zeros((0, 1, 1), np.uint8)
            encoded.append(Features(tuple(seen_image(image) for image in images), arrays))
            start += len(images)
        return encoded

    def _encoded(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features of prepared images [n, 3, S, S]."""
        starts = range(0, len(pixels), AT_ONCE)
        parts = [
            self._encoder.encode({"pixels": pixels[start : start + AT_ONCE]})["features"] for start in starts
        ]
        return np.concatenate(parts)

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``."""
        if len(features) != len(requests):
            raise ValueError("features and requests go in pairs")
        for request in requests:
            if request.task not in self.tasks or not self._entry.does(request.task, request.language):
                raise unsupported(self.model_id, request)
        with self._lock:  # a network's own caches are not for two threads
            prompts = self._word(features, requests)
            answers: dict[int, Answer] = {}
            order = sorted(
                range(len(requests)), key=lambda row: (self._room(requests[row]), len(prompts[row][0]))
            )
            for limit in sorted({self._room(request) for request in requests}):
                rows = [row for row in order if self._room(requests[row]) == limit]
                for start in range(0, len(rows), self._batch):
                    part = rows[start : start + self._batch]
                    schemas = [_schema(requests[row]) for row in part]
                    texts = self._write([prompts[row] for row in part], limit, schemas)
                    for row, schema, (text, truncated) in zip(part, schemas, texts, strict=True):
                        answers[row] = self._answer(text, truncated, requests[row], features[row], schema)
        return [answers[row] for row in range(len(requests))]

    def _answer(
        self, text: str, truncated: bool, request: Request, features: Features, schema: str
    ) -> Answer:
        """The answer that a written text is; JSON under a schema is written without thinking."""
        parted = Parted(text) if schema else part_reasoning(text, opened=self._opened)
        reading = self._read(parted.answer, request, features)
        return Answer(
            reading.text,
            truncated,
            labels=reading.labels,
            places=reading.places,
            structured=read_structured(text, schema, truncated=truncated) if schema else "",
            reasoning="\n".join(filter(None, (parted.reasoning, keep(reading.reasoning)))),
        )

    def _word(
        self, features: Sequence[Features], requests: Sequence[Request]
    ) -> list[tuple[list[int], NDArray[Any] | None]]:
        """Token ids and the features of their images per request, after the first passes of Regional CoT."""
        found: dict[int, Any] = {}
        if isinstance(self._dialect, MedRegaDialect):
            firsts = {row: self._dialect.first_pass(request) for row, request in enumerate(requests)}
            asked = {row: request for row, request in firsts.items() if request is not None}
            if asked:
                worded = [self._prompt(features[row], request, None) for row, request in asked.items()]
                texts = self._write(worded, self._limit or LIMIT, [""] * len(worded))
                for (row, request), (text, _) in zip(asked.items(), texts, strict=True):
                    found[row] = self._dialect.read(text, request, features[row].images).places
        return [
            self._prompt(one, request, found.get(row))
            for row, (one, request) in enumerate(zip(features, requests, strict=True))
        ]

    def _prompt(
        self, features: Features, request: Request, found: Any
    ) -> tuple[list[int], NDArray[Any] | None]:
        if request.task not in TEXT_TASKS and not features.images:
            raise FailStudy(
                "no-images", f"{request.task} needs an image, and the study has none that is read"
            )
        modality = str(features.arrays["modality"][0]) if features.images else ""
        if request.task is Task.STRUCTURED and not request.schema:
            request = _with_schema(request)
        text = self._worded(features, request, modality, found)
        text, values = self._insert(text, features, request)
        ids = tokens_of(self._loaded.tokenizer, text)
        room = self._loaded.positions - self._room(request)
        if len(ids) > room:
            message = (
                f"the prompt takes {len(ids)} tokens and {self.model_id} has room for {room}; nothing is cut"
            )
            raise FailStudy("text-too-long", message)
        return ids, values

    def _worded(self, features: Features, request: Request, modality: str, found: Any) -> str:
        """The whole prompt; ``found`` is what a first pass has found."""
        if isinstance(self._dialect, MedRegaDialect):
            return self._dialect.word(request, features.images, modality, found)
        return self._dialect.word(request, features.images, modality)

    def _insert(self, text: str, features: Features, request: Request) -> tuple[str, Any]:
        """``text`` with the tokens of each image where it is marked, and what stands for them."""
        seen = text.count(IMAGE_MARK)
        values = self._values(features, request)[:seen] if seen else None
        return text.replace(IMAGE_MARK, self._loaded.image_text), values

    def _read(self, text: str, request: Request, features: Features) -> ParsedAnswer:
        return self._dialect.read(text, request, features.images)

    def _values(self, features: Features, request: Request) -> NDArray[Any]:
        if self._pads and request.task is Task.DETECT:
            squares = [Image.fromarray(grey).convert("RGB") for grey in features.arrays["padded"]]
            return self._encoder.encode({"pixels": self._pixels(squares)})["features"]
        return features.arrays["features"]

    def _room(self, request: Request) -> int:
        if asked := self._limit or request.most_tokens:
            return asked
        reasons = self._dialect.reasons and request.task is not Task.DETECT
        long = request.task is Task.STRUCTURED or (self._pads and request.task is Task.DETECT)
        usual = self._dialect.most_tokens or LIMITS.get(request.task, LIMIT)
        return self._decoding.room(
            max(REASONING_LIMIT, self._dialect.most_tokens) if reasons or long else usual
        )

    def _write(
        self, prompts: Sequence[tuple[list[int], NDArray[Any] | None]], limit: int, schemas: Sequence[str]
    ) -> list[tuple[str, bool]]:
        """Text and whether it was cut off, per prompt, in one batch."""
        import torch
        from transformers import LogitsProcessorList

        network, pad = self._loaded.network, self._ends[0]
        longest = max(len(ids) for ids, _ in prompts)
        ids = torch.tensor([[pad] * (longest - len(one)) + one for one, _ in prompts], device=network.device)
        mask = torch.tensor(
            [[0] * (longest - len(one)) + [1] * len(one) for one, _ in prompts], device=network.device
        )
        processors = self._constrain(schemas)
        if self._decoding.penalty != 1.0:
            starts = [longest - len(one) for one, _ in prompts]
            processors = [OwnTokensPenalty(self._decoding.penalty, starts), *processors]
        extra = self._give([values for _, values in prompts if values is not None], ids)
        with torch.inference_mode():
            rows = network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=limit,
                min_new_tokens=min(self._decoding.least, limit) or None,
                do_sample=False,
                eos_token_id=self._ends,
                pad_token_id=pad,
                logits_processor=LogitsProcessorList(processors),
                **extra,
            )[:, longest:].tolist()
        written = [until_end(row, self._ends) for row in rows]
        decode: Callable[..., str] = self._loaded.tokenizer.decode
        skip = not self._dialect.marks
        return [(decode(list(one.ids), skip_special_tokens=skip).strip(), one.truncated) for one in written]

    def _give(self, seen: Sequence[Any], ids: Any) -> dict[str, Any]:
        """What ``generate`` is given beside the token ids [n, t]: the features ``seen`` of the prompts with images."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        network, extra = self._loaded.network, {}
        if seen:
            values = torch.from_numpy(np.concatenate(seen)).to(network.device, network.dtype)
            listed: Any = list(values) if network.config.model_type == "llava" else values
            extra["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=listed)}
        if self._loaded.marks_images:
            extra["token_type_ids"] = (ids == self._loaded.image_token).long()
        return extra

    def _constrain(self, schemas: Sequence[str]) -> list[Any]:
        if not any(schemas):
            return []
        if self._constraint is None:
            width = self._loaded.network.get_output_embeddings().out_features
            self._constraint = JsonConstraint(self._loaded.tokenizer, width, self._ends)
        return [self._constraint.processor(list(schemas))]

    def _choose(self, study: ImageSet) -> list[StudyImage]:
        if not study.images:
            raise SkipStudy("no-images", "the study has no image that this model reads")
        images = sorted(study.images, key=lambda image: image.view not in FRONTAL_VIEWS)
        return images[: min(self._dialect.most_images, self._entry.images or 1)]

    def _padded(self, image: StudyImage) -> NDArray[np.uint8]:
        """The image in the middle of a black square, at the processor's size, a byte a pixel."""
        picture, processor = grey_picture(image), self._loaded.processor
        side = max(picture.size)
        square = Image.new("L", (side, side))
        square.paste(picture, pads(picture.height, picture.width))
        size = (processor.size["width"], processor.size["height"])
        return np.asarray(square.resize(size, processor.resample))

    def _pixels(self, pictures: Sequence[Any]) -> NDArray[np.float32]:
        values = self._loaded.processor(images=list(pictures), return_tensors="np")["pixel_values"]
        return np.ascontiguousarray(values, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        vars(self).pop("_loaded", None)  # closing twice is allowed
        gc.collect()


def _schema(request: Request) -> str:
    return (request.schema or report_schema()) if request.task is Task.STRUCTURED else ""


def _with_schema(request: Request) -> Request:
    return replace(request, schema=report_schema())


def grey_picture(image: StudyImage) -> Image.Image:
    """The frame in 256 greys."""
    grey = np.clip(np.rint(np.asarray(image.pixels, np.float32) * 255), 0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def picture_of(image: StudyImage) -> Image.Image:
    """The frame in 256 greys as RGB, which is what these networks were trained on."""
    return grey_picture(image).convert("RGB")


def seen_image(image: StudyImage) -> SeenImage:
    """The frame as regions name it."""
    return SeenImage(image.ref, image.frame, image.original_rows, image.original_columns)


def open_medrega(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> ChatFamily:
    """MedRegA with the weights of ``choice``."""
    return _open(entry, choice, cache, MedRegaDialect(entry.prompts))


def open_llava_med(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> ChatFamily:
    """LLaVA-Med with the weights of ``choice``."""
    return _open(entry, choice, cache, LlavaMedDialect(entry.prompts))


LOADERS: Mapping[str, Callable[[Path, str], ChatNetwork]] = {
    "internvl": load_medrega,
    "llava": load_llava_med,
    "gemma3": load_medgemma,
}
"""How the network of an adapter is loaded, from a folder at a precision."""


def chat_towers(entry: CatalogEntry, folder: Path, precision: str) -> list[Callable[[], Tower]]:
    """A loader of the one tower of a folder of weights. It raises ConfigurationError, StopRun."""
    return [lambda: chat_tower(LOADERS[entry.adapter](folder, precision), entry.id)]


def _open(entry: CatalogEntry, choice: ModelChoice, cache: Path, dialect: Dialect) -> ChatFamily:
    return ChatFamily(
        entry,
        LOADERS[entry.adapter](choice.folder(entry), choice.precision),
        dialect,
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )
