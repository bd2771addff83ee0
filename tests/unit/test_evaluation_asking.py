"""Asking a family the cases of a data set: in batches, one failure at a time, with nothing it should not see."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.evaluation.answering import predict
from models.evaluation.cases import Case, Reference
from models.family import Answer, Features, PromptContext, Request, Task, Traits
from pipeline.errors import ConfigurationError, SkipStudy
from pipeline.report import Language
from pipeline.study import ImageSet
from tests.answering_family import AnsweringFamily


class CountingFamily(AnsweringFamily):
    """An answering family that notes what it is given and sees no white film."""

    def __init__(self) -> None:
        super().__init__(tasks=frozenset({Task.VQA, Task.DETECT, Task.CLASSIFY, Task.TEXT_QA}))
        self.traits = Traits(context=frozenset({"indication"}))
        self.encoded: list[int] = []
        self.asked: list[Request] = []

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        self.encoded.append(len(studies))
        if any(study.images[0].pixels.min() == 1 for study in studies):
            raise SkipStudy("unlike-training", "a white film")
        return super().encode(studies)

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        self.asked += requests
        return super().answer(features, requests)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Ten cases of several tasks on grey films, the fifth a text alone."""
    held = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((20, 30), 20 * number, np.uint8)).save(path)
        task = (Task.VQA, Task.DETECT, Task.CLASSIFY)[number % 3]
        held.append(
            Case(
                id=str(number), study=str(number), images=(path,), views=("PA",), task=task,
                language=Language.ENGLISH, reference=Reference("yes", ("normal",), ()), split="test",
                question="Is it?", labels=("normal", "nodule"), target="heart",
                context=PromptContext(indication="Cough.", comparison="None."),
            )
        )  # fmt: skip
    held[4] = replace(held[4], images=(), views=(), task=Task.TEXT_QA, text="Small effusion.")
    return held


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_change_nothing(cases: list[Case], batch: int) -> None:
    alone, _ = predict(AnsweringFamily(), cases)
    family = CountingFamily()
    heard: list[Any] = []
    made, failures = predict(family, cases, batch=batch, progress=heard.append)
    assert made == alone
    assert not failures
    assert [one.id for one in made] == [case.id for case in cases]
    assert len(family.batches) == len(heard) == -(-10 // batch)
    assert heard[-1] == 10
    assert sum(family.encoded) == 9, "a text alone is not encoded"
    assert made[1].boxes
    assert made[2].scores == {"normal": 0.9, "nodule": 0.2}


def test_a_case_that_fails_takes_no_other_down(cases: list[Case]) -> None:
    cases[0] = replace(cases[0], question="unanswerable")
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(cases[7].images[0])
    family = CountingFamily()
    made, failures = predict(family, cases, batch=10)
    assert failures == {"0": "not-askable", "7": "unlike-training"}
    assert [one.id for one in made if not one.text] == ["0", "7"]


def test_a_family_is_given_the_context_that_it_has_words_for(cases: list[Case]) -> None:
    family = CountingFamily()
    predict(family, cases, batch=5)
    assert {request.context for request in family.asked} == {PromptContext(indication="Cough.")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"context": PromptContext(indication="Cough. The lungs are clear today.")}, "reference-leak"),
        ({"task": Task.LANDMARK}, "unsupported-task"),
    ],
)
def test_nothing_is_asked_where_one_case_is_unsound(
    cases: list[Case], changes: dict[str, object], code: str
) -> None:
    cases[9] = replace(cases[9], reference=Reference("The lungs are clear today."), **changes)  # type: ignore[arg-type]
    family = CountingFamily()
    with pytest.raises(ConfigurationError) as caught:
        predict(family, cases, batch=2)
    assert caught.value.code == code
    assert not family.batches
