"""Regions of a draft in pixels of the images as they are stored.

A model sees a film upright and tells regions in that picture, and so do the checks and the review page; what leaves the
house says them in pixels of the stored image, which the reader of a region opens.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pipeline.report import DraftReport, Extent, Region
from pipeline.study import ImageSet, StudyImage, Turn


def in_stored_pixels(draft: DraftReport, image_set: ImageSet) -> DraftReport:
    """``draft`` with every region of a turned film in pixels of the stored one."""
    turned = {
        (image.ref.sop_instance_uid, image.frame): image for image in image_set.images if image.turn != Turn()
    }
    if not turned:
        return draft
    moved: DraftReport = _moved(draft, turned)
    return moved


def _moved(value: Any, turned: Mapping[tuple[str, int], StudyImage]) -> Any:
    if isinstance(value, Region):
        image = turned.get((value.ref.sop_instance_uid, value.frame))
        if image is None:
            return value
        box = (value.x0, value.y0, value.x1, value.y1)
        x0, y0, x1, y1 = image.turn.stored_box(box, image.original_rows, image.original_columns)
        return replace(value, x0=x0, y0=y0, x1=x1, y1=y1)
    if isinstance(value, Extent):
        on_planes = [_moved(one, turned) for one in value.on_planes()]
        if not on_planes:
            return value
        first = on_planes[0]  # the planes of a stack are turned alike
        return replace(value, x0=first.x0, y0=first.y0, x1=first.x1, y1=first.y1)
    if isinstance(value, tuple):
        return tuple(_moved(one, turned) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: _moved(getattr(value, field.name), turned) for field in fields(value)}
        return replace(value, **changes)
    return value
