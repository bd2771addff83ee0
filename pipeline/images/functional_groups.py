"""What the functional groups of an enhanced object say of one frame, where a classic one says it of the whole.

A frame's own group comes before the shared one, both before the header (PS3.3 C.7.6.16).
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset

from pipeline.images.headers import Elements, FrameElements, items, values

_OF_A_PICTURE = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}
"""PS3.3 C.7.6.16.2.10, .9 and .1: how a frame is displayed, and how far its pixels lie apart."""


def as_frames(dataset: Elements, frames: Sequence[int]) -> list[Elements]:
    """The header as each of ``frames`` (from 0) sees it; the header itself where it has no functional groups."""
    shared = items(dataset, "SharedFunctionalGroupsSequence")[:1]
    each = items(dataset, "PerFrameFunctionalGroupsSequence")
    if isinstance(dataset, FrameElements) or not (shared or each):
        return [dataset] * len(frames)
    return [
        FrameElements(dataset, _said((*shared, *each[frame : frame + 1]))) if frame >= 0 else dataset
        for frame in frames
    ]


def _said(groups: Sequence[Dataset]) -> dict[str, tuple[object, ...]]:
    """By keyword, the last of ``groups`` that has a macro deciding on all of its attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for group in groups:
        for sequence, keywords in _OF_A_PICTURE.items():
            for item in items(group, sequence)[:1]:
                found |= {keyword: values(item, keyword) for keyword in keywords}
    return {keyword: value for keyword, value in found.items() if value}
