"""Samples for training Uni-Med: a JSONL file of images, tasks, questions and answers.

One object a line: ``image`` (a path beside the file; absent for ``qa``), ``task`` (qa, vqa, refer, identify, caption,
cls), ``question`` (what fills the task's template: the thing for refer, the box ``{<x1><y1><x2><y2>}`` for identify)
and ``answer``. Nothing is clipped: the published code keeps 50 words of every question and answer, references
included, and a report longer than that was never learnt nor scored whole.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.families.uni_med.questions import TRAINING_TEMPLATES
from models.families.uni_med.uni_med_family import squash
from pipeline.errors import ConfigurationError

TEXT_ONLY = "qa"
FIELDS = {"image", "task", "question", "answer"}


@dataclass(frozen=True, slots=True)
class UniMedSample:
    """One question of one image, and its answer; ``image`` is None for a question of text alone."""

    image: Path | None
    task: str
    question: str
    answer: str

    def instruction(self, chooser: random.Random) -> str:
        """The question in one of the task's wordings."""
        return chooser.choice(TRAINING_TEMPLATES[self.task]).replace("{}", self.question)

    def pixels(self, size: int) -> NDArray[np.uint8]:
        """The image as uint8 [size, size]; zeros where there is none."""
        if self.image is None:
            return np.zeros((size, size), np.uint8)
        with Image.open(self.image) as image:
            grey = np.asarray(image.convert("L")).astype(np.float32) / np.float32(255)
        return squash(grey, size)


def read_samples(path: Path) -> list[UniMedSample]:
    """Every sample of a file. Raises ConfigurationError naming the line that is not one."""
    samples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            samples.append(_read(line, path, number))
    if not samples:
        raise ConfigurationError("training-data", f"{path.name} holds no sample")
    return samples


def _read(line: str, path: Path, number: int) -> UniMedSample:
    where = f"line {number} of {path.name}"
    try:
        stored = json.loads(line)
        task, question, answer = (str(stored[name]) for name in ("task", "question", "answer"))
        image = path.parent / stored["image"] if stored.get("image") else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError("training-data", f"{where} is no sample ({type(error).__name__})") from None
    if set(stored) - FIELDS or task not in TRAINING_TEMPLATES or not answer.strip():
        message = f"{where} has an unknown field, a task that is none of {', '.join(TRAINING_TEMPLATES)}, or no answer"
        raise ConfigurationError("training-data", message)
    if (image is None) != (task == TEXT_ONLY):
        raise ConfigurationError(
            "training-data", f"{where}: {TEXT_ONLY} has no image and every other task one"
        )
    return UniMedSample(image, task, question, answer)


def choose_batch(samples: Sequence[UniMedSample], seed: int, step: int, batch: int) -> list[UniMedSample]:
    """The samples of one step: every epoch a new order, fixed by ``seed`` whatever step it is taken up at."""
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, index = divmod(place, len(samples))
        order = list(range(len(samples)))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
        chosen.append(samples[order[index]])
    return chosen
