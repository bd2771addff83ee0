"""The masks of a draft: written as Segmentations, drawn on the pictures for people, named by the answers.

A mask that cannot be written is a remark; its volumes stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import FailStudy
from pipeline.images.segmentation import (
    MadeBy,
    SegmentationObject,
    SegmentationType,
    overlay,
    write_segmentation,
)
from pipeline.ledger import Preview, StoredMask
from pipeline.report import CheckOutcome, DraftReport, MaskRef, TaskAnswer, Verdict
from pipeline.study import ImageSet

CHECK = "segmentation"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draft whose answers name their masks, the masks, and the pictures with outlines of the first."""

    draft: DraftReport
    masks: tuple[StoredMask, ...]
    previews: tuple[Preview, ...]


def drawn(
    draft: DraftReport, image_set: ImageSet, previews: Sequence[Preview], kind: SegmentationType
) -> Drawn:
    """Every mask of ``draft`` written; no array is left in what comes back."""
    if not any(answer.mask is not None for answer in draft.answers):
        return Drawn(draft, (), tuple(previews))
    masks: list[StoredMask] = []
    remarks: list[CheckOutcome] = []
    shown = tuple(previews)
    answers: list[TaskAnswer] = []
    for answer in draft.answers:
        told = replace(answer, mask=None)
        if answer.mask is not None and image_set.volume is not None:
            if not any(one.overlay for one in shown):
                shown = _outlined(shown, image_set, answer)
            try:
                written = write_segmentation(
                    image_set.volume, answer.mask, answer.segments, _made_by(draft, answer), kind
                )
            except FailStudy as error:
                remarks.append(CheckOutcome(CHECK, Verdict.WARNED, error.message))
                written = None
            told = _told(told, written)
            if written:
                masks.append(StoredMask(written.ref, written.sop_class_uid, written.content))
        answers.append(told)
    draft = replace(draft, answers=tuple(answers), remarks=(*draft.remarks, *remarks))
    return Drawn(draft, tuple(masks), shown)


def _told(answer: TaskAnswer, written: SegmentationObject | None) -> TaskAnswer:
    """The answer with its segments' numbers in the object and its reference; without one it has neither."""
    if written is None:
        return replace(answer, segments=tuple(replace(one, number=0) for one in answer.segments))
    ref = MaskRef(written.ref, written.sop_class_uid, written.sha256)
    return replace(answer, segments=written.segments, mask_ref=ref)


def _made_by(draft: DraftReport, answer: TaskAnswer) -> MadeBy:
    made = draft.provenance
    return MadeBy(
        answer.model_id or made.model_id, made.model_version, made.recipe, made.finished.isoformat()
    )


def _outlined(previews: Sequence[Preview], image_set: ImageSet, answer: TaskAnswer) -> tuple[Preview, ...]:
    volume, mask = image_set.volume, answer.mask
    assert volume is not None
    assert mask is not None
    images = {(one.ref, one.frame): one for one in image_set.images}
    numbers = [one.number for one in answer.segments if one.voxels]
    return tuple(
        replace(one, overlay=overlay(images[one.ref, one.frame], volume, mask, numbers)) for one in previews
    )
