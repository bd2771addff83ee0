"""One study that a model refuses, or cannot answer about, costs the others of its batch nothing."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batches import PartlyAnswered, answer_each, encode_each
from models.drafter import Drafter
from models.family import Answer, Features, Request
from pipeline.errors import FailStudy, FirstreadError, RetryLater, SkipStudy
from pipeline.report import DraftReport, Language
from pipeline.study import ImageSet
from tests.answering_family import AnsweringFamily
from tests.tiny_model import film_study


class Choosy(AnsweringFamily):
    """Refuses studies by number, before it encodes anything, and counts what it has encoded and been asked."""

    def __init__(self, refused: Sequence[int]) -> None:
        super().__init__()
        self._refused = {f"1.2.{number}" for number in refused}
        self.encoded: list[int] = []
        self.asked: list[int] = []

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        if any(study.study_instance_uid in self._refused for study in studies):
            raise SkipStudy("unlike-training", "unlike")
        self.encoded.append(len(studies))
        return super().encode(studies)

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        self.asked.append(len(requests))
        return super().answer(features, requests)


@given(st.sets(st.integers(0, 31)))
def test_the_others_are_encoded_once_and_drafted_together(refused: set[int]) -> None:
    family = Choosy(sorted(refused))
    drafter = Drafter(family, Language.ENGLISH, "code")
    encoded = drafter.encode([film_study(number) for number in range(32)])
    assert set(encoded.refused) == refused
    assert sum(family.encoded) == 32 - len(refused)
    drafts = drafter.write(encoded)
    wanted = [f"1.2.{number}" for number in range(32) if number not in refused]
    assert [draft.study_instance_uid for draft in drafts if isinstance(draft, DraftReport)] == wanted
    assert family.asked == ([len(wanted)] if wanted else [])


def test_one_of_thirty_two_costs_five_batches_more_at_most() -> None:
    family = Choosy([11])
    assert isinstance(encode_each(family, [film_study(number) for number in range(32)])[11], SkipStudy)
    assert sorted(family.encoded) == [1, 2, 4, 8, 16]


def test_a_study_asked_for_alone_is_refused_by_name() -> None:
    with pytest.raises(SkipStudy, match="unlike"):
        Drafter(Choosy([1]), Language.ENGLISH, "code").encode([film_study(1)])


class Halting(AnsweringFamily):
    """Answers all but the second of a batch, which is too much for it, and the third, for which its server is away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        self.asked += 1
        answers: list[Answer | FirstreadError] = [*super().answer(features, requests)]
        answers[1:3] = [FailStudy("too-much", "too much"), RetryLater("away", "away")]
        raise PartlyAnswered(answers)


def test_answers_that_are_there_are_kept() -> None:
    family = Halting()
    drafter = Drafter(family, Language.ENGLISH, "code")
    drafts = drafter.write(drafter.encode([film_study(number) for number in range(4)]))
    assert [type(draft) for draft in drafts] == [DraftReport, FailStudy, RetryLater, DraftReport]
    assert family.asked == 1


def test_pairs_are_asked_in_pairs() -> None:
    with pytest.raises(ValueError, match="longer"):
        answer_each(AnsweringFamily(), [], [Request()])
