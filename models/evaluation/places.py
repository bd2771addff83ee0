"""Scores of boxes and points, in pixels of the original image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.cases import Box
from models.evaluation.intervals import Measure, Metric, Row, mean, ratio

LEAST = 0.5
"""A box is found where another overlaps it by more than this."""


def iou(one: Box, other: Box, *, extra: float = 0.0) -> float:
    """Intersection over union, 0..1; ``extra`` 1 counts both border pixels, as Uni-Med does."""
    wide = min(one[2], other[2]) - max(one[0], other[0]) + extra
    high = min(one[3], other[3]) - max(one[1], other[1]) + extra
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box[2] - box[0] + extra) * (box[3] - box[1] + extra) for box in (one, other))
    return wide * high / (areas - wide * high)


def match(made: Sequence[Box], true: Sequence[Box]) -> list[tuple[int, int]]:
    """Pairs of places in ``made`` and ``true`` that overlap by more than ``LEAST``, as many as there can be.

    Each box is in one pair at most. The number of pairs does not hang on the order of the boxes: a pair gives way
    where its boxes can be paired otherwise (augmenting paths).
    """
    near = [[place for place, box in enumerate(true) if iou(one, box) > LEAST] for one in made]
    pairs = _Pairs({}, {})
    for start in range(len(made)):
        _augment(start, near, pairs)
    return sorted(pairs.of_made.items())


@dataclass(frozen=True, slots=True)
class _Pairs:
    of_made: dict[int, int]
    of_true: dict[int, int]


def _augment(start: int, near: Sequence[Sequence[int]], pairs: _Pairs) -> None:
    """Add a pair with ``start``, moving others, where one can be added."""
    reached: dict[int, int] = {}
    waiting = [start]
    for own in waiting:
        for other in near[own]:
            if other in reached:
                continue
            reached[other] = own
            if other in pairs.of_true:
                waiting.append(pairs.of_true[other])
                continue
            place: int | None = other
            while place is not None:
                mover = reached[place]
                left = pairs.of_made.get(mover)
                pairs.of_made[mover], pairs.of_true[place] = place, mover
                place = left
            return


def box_rows(made: Sequence[Box], true: Sequence[Box]) -> list[Row]:
    """Precision, recall and F1 of one-to-one pairs; where the reference has boxes also the best box of each of them,
    a missing one counting 0."""
    counts = np.array([len(match(made, true)), len(made), len(true)], np.float64)
    variant = f"IoU > {LEAST}, plain, one to one"
    nothing = "no box was predicted"
    precision = Measure("box precision", variant, nothing, plotted="box precision")
    recall = Measure("box recall", variant, "the references have no box", plotted="box recall")
    both = Measure("box F1", variant, f"{nothing}, and the references have none", plotted="box F1")
    rows = [
        (Metric(precision, lambda sums: ratio(sums[0], sums[1])), counts),
        (Metric(recall, lambda sums: ratio(sums[0], sums[2])), counts),
        (Metric(both, lambda sums: ratio(2 * sums[0], sums[1] + sums[2])), counts),
    ]
    if not true:
        return rows
    for extra, name in ((0.0, "plain"), (1.0, "+1 pixel, as Uni-Med")):
        best = [max((iou(box, other, extra=extra) for box in made), default=0.0) for other in true]
        share = float(np.mean([one > LEAST for one in best]))
        overlap = Measure("IoU", f"{name}, best box of each reference box", plotted="" if extra else "IoU")
        found = Measure(
            f"accuracy at {LEAST}",
            f"IoU > {LEAST}, {name}",
            plotted="" if extra else f"accuracy at {LEAST}",
        )
        rows += [mean(overlap, float(np.mean(best))), mean(found, share)]
    return rows


def point_rows(made: Sequence[tuple[float, float]], true: Sequence[tuple[float, float]]) -> list[Row]:
    """Whether a point was given, and how far the first lies from the reference's first."""
    rows = [
        mean(
            Measure("landmark answered", "share of cases with a point", plotted="answered"), float(bool(made))
        )
    ]
    if made:
        distance = float(np.hypot(true[0][0] - made[0][0], true[0][1] - made[0][1]))
        error = Measure("landmark error", "pixels of the original, mean where a point was given")
        rows.append(mean(error, distance))
    return rows
