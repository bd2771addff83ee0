"""Batches in which some studies fail: what the others gave is kept, and not computed again one by one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from models.family import Answer, Family, Features, Request
from pipeline.errors import FailStudy, FirstreadError, SkipStudy
from pipeline.study import ImageSet

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class PartlyEncoded(SkipStudy):
    """Some studies of a batch are refused; ``given`` has features or the refusal of each, in the batch's order."""

    def __init__(self, given: Sequence[Features | SkipStudy]) -> None:
        """Named for the first refusal, for who asked about one study."""
        first = next(one for one in given if isinstance(one, SkipStudy))
        super().__init__(first.code, first.message)
        self.given: tuple[Features | FirstreadError, ...] = tuple(given)


class PartlyAnswered(FailStudy):
    """Some requests of a batch failed; ``given`` has the answer or the error of each, in the batch's order."""

    def __init__(self, given: Sequence[Answer | FirstreadError]) -> None:
        """Named for the first error, for who asked about one study."""
        first = next(one for one in given if isinstance(one, FirstreadError))
        super().__init__(first.code, first.message)
        self.given = tuple(given)


def encode_each(family: Family, studies: Sequence[ImageSet]) -> list[Features | FirstreadError]:
    """Features of each study, or why the family has none of it, in order. Raises all but SkipStudy and FailStudy."""

    def encode(part: Sequence[ImageSet]) -> Sequence[Features | FirstreadError]:
        try:
            return family.encode(part)
        except PartlyEncoded as partly:
            return partly.given

    return _each(encode, studies)


def answer_each(
    family: Family, features: Sequence[Features], requests: Sequence[Request]
) -> list[Answer | FirstreadError]:
    """The answer of each request, or why there is none, in order. Raises what ends the whole batch."""

    def answer(part: Sequence[tuple[Features, Request]]) -> Sequence[Answer | FirstreadError]:
        try:
            return family.answer([one for one, _ in part], [request for _, request in part])
        except PartlyAnswered as partly:
            return partly.given

    return _each(answer, list(zip(features, requests, strict=True)))


def _each(
    work: Callable[[Sequence[Asked]], Sequence[Given | FirstreadError]], batch: Sequence[Asked]
) -> list[Given | FirstreadError]:
    """Halves of a batch that fails as a whole, down to the one that does: log2(n) calls in vain, and not n alone."""
    if not batch:
        return []
    try:
        return list(work(batch))
    except (SkipStudy, FailStudy) as error:
        if len(batch) == 1:
            return [error]
    half = len(batch) // 2
    return [*_each(work, batch[:half]), *_each(work, batch[half:])]
