"""What the review page shows of the answers to a site's tasks."""

import json
from dataclasses import dataclass

from pipeline.report import TaskAnswer, outline_colour
from pipeline.web.marks import Marks

TASK_NAMES = {
    "report": "Report",
    "findings": "Findings",
    "impression": "Impression",
    "grounded_report": "Grounded report",
    "vqa": "Question on the images",
    "classify": "Classification",
    "detect": "Detection",
    "identify": "Region description",
    "landmark": "Landmark",
    "summarize": "Summary of the findings",
    "structured": "Structured data",
    "text_qa": "Question on the text",
    "segment": "Segmentation",
}
"""What a task is called on the page."""


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One class: whether it was chosen, and its probability to read and for a meter."""

    name: str
    chosen: bool
    probability: str
    meter: float | None


@dataclass(frozen=True, slots=True)
class PlaceLine:
    """One place; ``number`` is that of its mark, None where it was not found."""

    number: int | None
    name: str
    said: str
    confidence: str
    meter: float | None


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """One structure of a segmentation; ``colour`` is that of its outline, "" where none was found."""

    name: str
    volume: str
    colour: str


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One answer as the page shows it; ``structured`` is JSON to read, ``text`` what is told nowhere else."""

    task: str
    question: str
    language: str
    text: str
    structured: str
    labels: tuple[LabelLine, ...]
    places: tuple[PlaceLine, ...]
    segments: tuple[SegmentLine, ...]
    mask: str
    truncated: bool
    model: str


def answer_view(answer: TaskAnswer, marks: Marks) -> AnswerView:
    """One answer, its places numbered as on the pictures."""
    chosen = "; ".join(label.name for label in answer.labels if label.chosen)
    told = answer.structured or chosen == answer.text
    return AnswerView(
        task=TASK_NAMES.get(answer.task, answer.task.replace("_", " ")),
        question=answer.question,
        language=answer.language.value,
        text="" if told or answer.segments else answer.text,
        structured=_readable(answer.structured),
        labels=tuple(
            LabelLine(one.name, one.chosen, _figure(one.probability), one.probability)
            for one in answer.labels
        ),
        places=tuple(
            PlaceLine(
                number=mark.number if (mark := marks.of_place(one)) else None,
                name=one.name,
                said=one.text or ("found" if mark else "not found"),
                confidence=_figure(one.confidence),
                meter=one.confidence,
            )
            for one in answer.places
        ),
        segments=tuple(
            SegmentLine(
                one.name,
                f"{one.volume_ml:.1f} ml" if one.voxels else "not found",
                outline_colour(one.number) if one.number else "",
            )
            for one in answer.segments
        ),
        mask=answer.mask_ref.ref.sop_instance_uid if answer.mask_ref else "",
        truncated=answer.truncated,
        model=answer.model_id,
    )


def _figure(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.2f}"


def _readable(text: str) -> str:
    """JSON with line breaks; text that is not JSON is left as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2) if text else ""
    except (ValueError, RecursionError):
        return text
