"""Boxes of an evaluation: one-to-one pairs, and what precision, recall and F1 make of them."""

from collections.abc import Sequence
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.cases import Box, Case, Reference
from models.evaluation.intervals import Score
from models.evaluation.places import LEAST, iou, match
from models.evaluation.predictions import Prediction
from models.evaluation.scores import score
from models.family import Task
from pipeline.report import Language


@st.composite
def boxes(draw: st.DrawFn) -> list[Box]:
    """Up to five boxes of one row that differ by little, so that most overlap several others by more than half."""
    made = []
    for _ in range(draw(st.integers(0, 5))):
        x, wide = draw(st.integers(0, 4)), draw(st.integers(3, 8))
        made.append((float(x), 0.0, float(x + wide), draw(st.sampled_from((6.0, 10.0)))))
    return made


def most_pairs(made: Sequence[Box], true: Sequence[Box]) -> int:
    """The largest number of one-to-one pairs, by trying every assignment."""
    few, many = sorted((made, true), key=len)
    return max(
        sum(iou(one, other) > LEAST for one, other in zip(few, chosen, strict=True))
        for chosen in permutations(many, len(few))
    )


@given(boxes(), boxes())
def test_pairs_are_as_many_as_any_assignment_has(made: list[Box], true: list[Box]) -> None:
    assert len(match(made, true)) == most_pairs(made, true)


@given(boxes(), boxes())
def test_a_box_is_in_one_pair_and_overlaps_it(made: list[Box], true: list[Box]) -> None:
    pairs = match(made, true)
    assert len({own for own, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    assert all(iou(made[own], true[other]) > LEAST for own, other in pairs)


@given(boxes(), boxes(), st.randoms(use_true_random=False))
def test_neither_order_nor_direction_changes_the_number(
    made: list[Box], true: list[Box], chance: Random
) -> None:
    shuffled = chance.sample(made, len(made)), chance.sample(true, len(true))
    assert len(match(*shuffled)) == len(match(made, true)) == len(match(true, made))


@given(boxes())
def test_boxes_match_themselves(made: list[Box]) -> None:
    assert len(match(made, made)) == len(made)


def test_a_pair_gives_way_to_make_room_for_another() -> None:
    wide, left = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 6.0, 10.0)
    true = [wide, (1.0, 0.0, 10.0, 10.0)]
    assert [iou(left, one) > LEAST for one in true] == [True, False]
    assert len(match([wide, left], true)) == 2


def detect(number: int, *true: Box) -> Case:
    """A detect case of a study of its own."""
    return Case(
        str(number), str(number), (), (), Task.DETECT, Language.ENGLISH, Reference(boxes=true), "test"
    )


def scores_of(*pairs: tuple[Case, tuple[Box, ...]]) -> dict[str, Score]:
    cases = [case for case, _ in pairs]
    made = [Prediction(case.id, boxes=boxes) for case, boxes in pairs]
    return {
        one.metric: one for one in score(cases, made, 0) if "plain" in one.variant and "+1" not in one.variant
    }


HERE, THERE, ASIDE = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def test_counts_over_several_boxes_and_cases_without_any() -> None:
    told = scores_of(
        (detect(1, HERE, THERE), (HERE, HERE, ASIDE)),  # one found, twice: the second is false; one missed
        (detect(2), (ASIDE,)),  # nothing there: false
        (detect(3), ()),
    )
    assert told["box precision"].value == pytest.approx(1 / 4)
    assert told["box recall"].value == pytest.approx(1 / 2)
    assert told["box F1"].value == pytest.approx(2 / 6)
    assert told["box precision"].n == 3
    assert told["IoU"].n == told["accuracy at 0.5"].n == 1, "the best box of a reference box needs one"
    assert told["accuracy at 0.5"].value == pytest.approx(1 / 2)


def test_what_cannot_be_counted_is_no_number() -> None:
    told = scores_of((detect(1), ()), (detect(2), ()))
    assert [told[name].value for name in ("box precision", "box recall", "box F1")] == [None] * 3
    assert told["box precision"].note == "no box was predicted"
    missed = scores_of((detect(1, HERE), ()))
    assert missed["box precision"].value is None
    assert (missed["box recall"].value, missed["box F1"].value) == (0.0, 0.0)


def test_resamples_without_a_box_are_left_out_and_said() -> None:
    told = scores_of((detect(1, HERE), (HERE,)), (detect(2), ()))
    recall = told["box recall"]
    assert (recall.value, recall.low, recall.high) == (1.0, 1.0, 1.0)
    assert "of 1000 resamples left out: the references have no box" in recall.note
