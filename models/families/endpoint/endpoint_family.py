"""A model behind an OpenAI-compatible server as a family.

Preprocessing: the server's. Sent are PNG images of the study's pixels in the order that the family reads them, and the
family's own words; no header, and no film with text in its pixels unless the site says so (``allowed``). Coordinates:
the family's own (``wording``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from models.batches import PartlyAnswered
from models.catalog import CatalogEntry
from models.families import reasoning
from models.families.endpoint import template, wording
from models.families.endpoint.client import ChatMessage, EndpointClient, Reply
from models.families.endpoint.drawn_text import text_boxes, without_text
from models.families.endpoint.pictures import padded_picture, picture
from models.families.reasoning import keep, part_reasoning
from models.family import TEXT_TASKS, Answer, Features, Request, SeenImage, Task, unsupported
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.study import FRONTAL_VIEWS, LATERAL_VIEWS, ImageSet, StudyImage

ROLES = ("image", "lateral", "prior")
SOURCES = (
    *(Path(template.__file__).with_name(name) for name in ("wording.py", "template.py", "dialects.py")),
    Path(reasoning.__file__),
)


class EndpointFamily:
    """A served family. See ``models.family.Family``.

    Features: ``png`` uint8 [images, bytes] padded with zeros, ``length`` [images], ``role`` [images] into ``ROLES``,
    ``modality`` [images] as DICOM names it. A prior film is in the arrays and not among ``Features.images``: regions
    never lie on it.
    """

    runner = "endpoint"

    def __init__(self, entry: CatalogEntry, options: EndpointOptions) -> None:
        """Ask the server what it serves.

        Raises StopRun when it is away, ConfigurationError when it refuses us or the family cannot be asked this way.
        """
        self._entry, self._options = entry, options
        self._wording = wording.wording_of(entry)
        self.model_id, self.model_version = entry.id, entry.version
        self.tasks = frozenset(entry.tasks) - self._wording.lacks
        self.languages = frozenset(entry.languages)
        self.traits = replace(entry.traits, reads_priors=self._wording.prior)
        self._client = EndpointClient(options)
        try:
            served = self._client.describe()
        except BaseException:
            self._client.close()
            raise
        words = b"".join(source.read_bytes() for source in SOURCES)
        self.parts = {
            "runner": self.runner,
            "prompts": self._wording.digest,
            "wording": hashlib.sha256(words).hexdigest(),
            "served/model": options.model,
            "served/listed": ", ".join(f"{key} {value}" for key, value in sorted(served.items()))
            or "not listed",
            "decoding": f"greedy, seed {options.seed}, at most {options.max_tokens} tokens",
            "images": f"png, longest side {options.max_side}",
            "httpx": httpx.__version__,
            **({"text in the pixels": "masked"} if options.burned_in == "mask" else {}),
            **({"schema": "sent as response_format"} if options.json_schema else {}),
            **({"special tokens": "kept in the text"} if options.special_tokens else {}),
        }

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The first image that would be sent, as [1, 1, rows, columns]; the server does the preprocessing."""
        chosen, _ = self._choose(study)
        return np.ascontiguousarray(chosen[0].pixels, np.float32)[None, None]

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``. Nothing is sent yet."""
        return [self._encode(study) for study in studies]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``; also raises RetryLater when the server is away or busy for too long."""
        chats = [self._chat(one, request) for one, request in zip(features, requests, strict=True)]
        schemas = [request.schema if request.task is Task.STRUCTURED else "" for request in requests]
        replies = self._client.complete(chats, schemas)
        errors = [reply for reply in replies if isinstance(reply, FirstreadError)]
        if errors and (len(errors) == len(replies) or any(isinstance(one, StopRun) for one in errors)):
            raise _gravest(errors)
        given: list[Answer | FirstreadError] = [
            reply if isinstance(reply, FirstreadError) else self._answer(one, request, reply)
            for one, request, reply in zip(features, requests, replies, strict=True)
        ]
        answers = [one for one in given if isinstance(one, Answer)]
        if len(answers) < len(given):
            raise PartlyAnswered(given)
        return answers

    def _answer(self, features: Features, request: Request, reply: Reply) -> Answer:
        parted = part_reasoning(reply.text)
        read = self._wording.read(parted.answer, request, features.images)
        structured = ""
        if request.task is Task.STRUCTURED and not reply.truncated:
            structured = wording.read_json(parted.answer, request.schema)
        thought = (keep(reply.reasoning), parted.reasoning, keep(read.reasoning))
        return Answer(
            read.text,
            reply.truncated,
            labels=read.labels,
            places=read.places,
            structured=structured,
            reasoning="\n".join(filter(None, thought)),
        )

    def _encode(self, study: ImageSet) -> Features:
        images, roles = self._choose(allowed(study, self._options.burned_in))
        pictures = [picture(image, self._options.max_side) for image in images]
        packed = np.zeros((len(pictures), max(map(len, pictures))), np.uint8)
        for row, content in enumerate(pictures):
            packed[row, : len(content)] = np.frombuffer(content, np.uint8)
        arrays: dict[str, NDArray[Any]] = {
            "png": packed,
            "length": np.array([len(content) for content in pictures], np.int64),
            "role": np.array([ROLES.index(role) for role in roles], np.int64),
            "modality": np.array([image.modality for image in images]),
        }
        current = [image for image, role in zip(images, roles, strict=True) if role != "prior"]
        return Features(tuple(_seen(image) for image in current), arrays)

    def _choose(self, study: ImageSet) -> tuple[list[StudyImage], list[str]]:
        """The images to send and their roles, in the family's order. Raises SkipStudy where it has none."""
        if not self._entry.images:
            raise SkipStudy(
                "no-image-model", f"{self.model_id} reads text only; name a model of images in model.id"
            )
        if not study.images:
            raise SkipStudy("no-images", "the study has no image that this model reads")
        if not self._wording.frontal:
            chosen = list(study.images[: self._entry.images])
            return chosen, ["image"] * len(chosen)
        # an unknown view is taken for frontal only where the film says nothing else and no other is
        frontal = [one for one in study.images if one.view in FRONTAL_VIEWS] or [
            one for one in study.images if one.view == ""
        ]
        if not frontal:
            message = "the study has no frontal film, the only view this model reports on"
            raise SkipStudy("no-frontal-view", message)
        chosen, roles = frontal[:1], ["image"]
        laterals = (
            [one for one in study.images if one.view in LATERAL_VIEWS][:1] if self._wording.lateral else []
        )
        # what was chosen for comparison is sent: a draft that says it was compared has to have been
        priors = (
            [one for one in study.priors if one.view not in LATERAL_VIEWS][:1] if self._wording.prior else []
        )
        return chosen + laterals + priors, roles + ["lateral"] * len(laterals) + ["prior"] * len(priors)

    def _chat(self, features: Features, request: Request) -> list[ChatMessage]:
        if request.task not in self.tasks or not self._entry.does(request.task, request.language):
            raise unsupported(f"{self.model_id}, asked through an endpoint,", request)
        pictures, roles = [], []
        if request.task not in TEXT_TASKS:
            if not features.images:
                raise FailStudy("no-images", f"{request.task} was asked without an image")
            lengths, rows = features.arrays["length"], features.arrays["png"]
            pictures = [rows[row, :length].tobytes() for row, length in enumerate(lengths)]
            roles = [ROLES[role] for role in features.arrays["role"]]
            if self._wording.alone(request.task):
                pictures, roles = pictures[:1], roles[:1]
            colour = self._wording.padding(request.task)
            if colour is not None:
                pictures = [padded_picture(one, colour) for one in pictures]
        modality = str(features.arrays["modality"][0]) if pictures else ""
        system, texts = self._wording.ask(request, roles, features.images if pictures else (), modality)
        turns = [ChatMessage("system", (system,))] if system else []
        return [*turns, ChatMessage("user", template.weave(texts, pictures))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def open_endpoint(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> EndpointFamily:
    """The adapter's opener (``models.families.registry.ADAPTERS``)."""
    if choice.endpoint is None:
        needs = f" It needs {entry.environment}." if entry.environment else ""
        message = (
            f"{entry.id} is reached through a server:{needs} Start it (docs/models.md) and set endpoint.url and "
            "endpoint.model in the table of the model"
        )
        raise ConfigurationError("endpoint-missing", message)
    return EndpointFamily(entry, choice.endpoint)


def _gravest(errors: Sequence[FirstreadError]) -> FirstreadError:
    """What the whole batch comes to: a refusal of us before a server that is away before one request's own fault."""
    rank = (StopRun, RetryLater, FailStudy)
    return min(
        errors, key=lambda one: next(place for place, kind in enumerate(rank) if isinstance(one, kind))
    )


def allowed(study: ImageSet, burned_in: str) -> ImageSet:
    """``study`` as it may be sent by the site's policy on text in the pixels ("refuse", "mask" or "send").

    Text is there where the header says so (PS3.3 C.7.6.1.1.8 BurnedInAnnotation) or ``drawn_text`` finds it. What is
    found can be masked; where the header speaks of text that is not found, the film stays here. Raises
    SkipStudy("burned-in-annotation") where no film may be sent.
    """
    if burned_in == "send":
        return study
    images = tuple(filter(None, (_allowed_film(image, burned_in) for image in study.images)))
    if study.images and not images:
        raise SkipStudy(
            "burned-in-annotation",
            "text is drawn into the film: it is not sent to a server. endpoint.burned_in masks it, or sends it where "
            "the server lies inside the house",
        )
    priors = tuple(filter(None, (_allowed_film(image, burned_in) for image in study.priors)))
    return replace(study, images=images, priors=priors)


def _allowed_film(image: StudyImage, burned_in: str) -> StudyImage | None:
    boxes = text_boxes(image.pixels)
    if not boxes:
        return None if image.burned_in else image
    return replace(image, pixels=without_text(image.pixels, boxes)) if burned_in == "mask" else None


def _seen(image: StudyImage) -> SeenImage:
    return SeenImage(image.ref, image.frame, image.original_rows, image.original_columns)
