"""What a model answered to the cases, and a file of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path

from models.evaluation.cases import Box, Case
from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to the case ``id``; boxes and points in pixels of the original first image.

    ``labels`` are those chosen; ``scores`` how likely each label is by the model, the higher the likelier.
    """

    id: str
    text: str = ""
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def read_predictions(file: Path, cases: Sequence[Case]) -> list[Prediction]:
    """Predictions of a JSONL of {id, text, labels, scores, boxes, points}, one for every case, in their order."""
    known = {case.id for case in cases}
    found: dict[str, Prediction] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            held = json.loads(line)
            prediction = Prediction(
                str(held["id"]),
                str(held.get("text", "")),
                tuple(str(one) for one in held.get("labels", ())),
                tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in held.get("boxes", ())),
                tuple((float(x), float(y)) for x, y in held.get("points", ())),
                {str(name): _finite(value) for name, value in held.get("scores", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{file.name}, line {number}: is no prediction with an id; correct the line"
            raise ConfigurationError("bad-predictions", message) from error
        if prediction.id in found:
            message = f"{file.name}, line {number}: the id occurs twice; correct the line"
            raise ConfigurationError("bad-predictions", message)
        found[prediction.id] = prediction
    if missing := known - set(found):
        message = f"{file.name} lacks {len(missing)} of {len(known)} cases, such as {min(missing)!r}"
        raise ConfigurationError("bad-predictions", message)
    return [found[case.id] for case in cases]


def write_predictions(file: Path, made: Sequence[Prediction]) -> None:
    """Write what :func:`read_predictions` reads."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) for one in made]
    file.write_text("\n".join(lines) + "\n", "utf-8")


def _finite(value: object) -> float:
    """The number. Raises ValueError if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("a score is no number")
    return float(value)
