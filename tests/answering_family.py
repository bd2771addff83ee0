"""A family that does every task by rules over the film's own pixels: what is made of its answers is under test."""

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.family import Answer, Features, Request, SeenFinding, SeenImage, Task, Traits
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy
from pipeline.report import Label, Language, Place, Point, Region, Side
from pipeline.study import ImageSet

FINDINGS = {
    Language.ENGLISH: "There is a small left pleural effusion. No pneumothorax. The heart is normal in size.",
    Language.CHINESE: "左侧少量胸腔积液。未见气胸。心影大小正常。",
}
IMPRESSION = {
    Language.ENGLISH: "Small left pleural effusion. Follow up.",
    Language.CHINESE: "左侧少量胸腔积液。建议复查。",
}
HEADINGS = {
    Language.ENGLISH: "Findings: {}\nImpression: {}",
    Language.CHINESE: "影像所见：{}\n影像诊断：{}",
}


class AnsweringFamily:
    """Its features are the mean of each image; a brighter half of the first decides side and place."""

    model_version, runner, traits = "1", "onnxruntime-cpu", Traits(reads_priors=True)

    def __init__(
        self,
        model_id: str = "answering",
        *,
        tasks: frozenset[Task] = frozenset(Task) - {Task.SEGMENT},
        languages: frozenset[Language] = frozenset(Language),
        weights: str = "w",
    ) -> None:
        self.model_id, self.tasks, self.languages = model_id, tasks, languages
        self.parts = {"weights": weights}
        self.batches: list[list[Task]] = []
        self.priors = 0
        self.closed = False

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        if not study.images:
            raise SkipStudy("no-image", "the study has no image")
        return np.array([[image.pixels.mean()] for image in study.images], np.float32)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        self.priors += sum(len(study.priors) for study in studies)
        return [
            Features(
                tuple(
                    SeenImage(one.ref, one.frame, one.original_rows, one.original_columns)
                    for one in study.images
                ),
                {"mean": self.prepare(study)},
            )
            for study in studies
        ]

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        self.batches.append([request.task for request in requests])
        return [self._one(*pair) for pair in zip(features, requests, strict=True)]

    def _one(self, features: Features, request: Request) -> Answer:
        if request.task not in self.tasks:
            raise ConfigurationError("unsupported-task", f"{self.model_id} does not do {request.task}")
        if request.question == "unanswerable":
            raise FailStudy("not-askable", "the question cannot be asked of this study")
        image = features.images[0] if features.images else None
        match request.task:
            case Task.REPORT:
                text = HEADINGS[request.language].format(
                    FINDINGS[request.language], IMPRESSION[request.language]
                )
                box = _box(image, 0.6, 0.6, 0.9, 0.9)
                return Answer(text, False, (SeenFinding("pleural_effusion", Side.LEFT, 0.93, box),))
            case Task.CLASSIFY:
                chances = {label: 0.9 if number == 0 else 0.2 for number, label in enumerate(request.labels)}
                labels = tuple(Label(name, chance > 0.5, chance) for name, chance in chances.items())
                return Answer(request.labels[0], False, labels=labels, probabilities=chances)
            case Task.DETECT:
                places = (
                    ()
                    if request.target == "nothing"
                    else (
                        Place(request.target, _box(image, 0.1, 0.2, 0.4, 0.5), None, 0.7),
                        Place(request.target, _box(image, 0.6, 0.2, 0.9, 0.5)),
                    )
                )
                return Answer("2 found" if places else "none found", False, places=places)
            case Task.LANDMARK:
                assert image is not None
                point = Point(image.ref, image.frame, image.columns * 0.5, image.rows * 0.3)
                return Answer(f"{request.target} found", False, places=(Place(request.target, None, point),))
            case Task.GROUNDED_REPORT:
                effusion = Place("effusion", _box(image, 0.6, 0.6, 0.9, 0.9), text="Small left effusion.")
                return Answer("Small left effusion.", False, places=(effusion, Place("pneumothorax")))
            case Task.IDENTIFY:
                assert image is not None
                assert request.region is not None
                if request.region.x1 > image.columns:
                    raise FailStudy("region-range", "the region lies outside the image")
                return Answer(f"a box {request.region.x1 - request.region.x0:g} pixels wide", False)
            case Task.STRUCTURED:
                return Answer("", False, structured=json.dumps({"length": len(request.text)}))
            case Task.SUMMARIZE | Task.TEXT_QA:
                return Answer(f"{len(request.text)} letters: {request.text[:12]}", False)
            case _:
                return Answer(request.options[-1] if request.options else "yes", False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


def _box(image: SeenImage | None, x0: float, y0: float, x1: float, y1: float) -> Region | None:
    if image is None:
        return None
    wide, high = image.columns, image.rows
    return Region(image.ref, image.frame, x0 * wide, y0 * high, x1 * wide, y1 * high)
