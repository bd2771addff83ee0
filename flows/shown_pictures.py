"""Which pictures of a study people are shown beside its draft, the marked ones first, and what stands under each."""

from collections.abc import Sequence

from pipeline.images import preview
from pipeline.images.preview import MOST_SHOWN
from pipeline.images.sampling import evenly
from pipeline.ledger import Preview
from pipeline.report import Caption, DraftReport
from pipeline.study import ImageSet

MOST_MARKED = 8
"""Of a box through many planes so many are shown, so that others stand beside them."""


def marked_first(draft: DraftReport, image_set: ImageSet, previews: Sequence[Preview]) -> tuple[Preview, ...]:
    """Pictures of what ``draft`` marks, then those of ``previews`` that there is room for, evenly chosen."""
    images = {(one.ref, one.frame): one for one in image_set.images}
    marked = [at for at in draft.marked if at in images]
    made = {(one.ref, one.frame): one for one in previews}
    first = [
        made.get(marked[place]) or preview(images[marked[place]])
        for place in evenly(len(marked), MOST_MARKED)
    ]
    if not first:
        return tuple(previews)
    shown = {(one.ref, one.frame) for one in first}
    rest = [one for at, one in made.items() if at not in shown]
    return (*first, *(rest[place] for place in evenly(len(rest), MOST_SHOWN - len(first))))


def captions(image_set: ImageSet, previews: Sequence[Preview]) -> tuple[Caption, ...]:
    """What stands under each of ``previews``."""
    words = {(one.ref, one.frame): one.caption for one in image_set.images}
    return tuple(
        Caption(one.ref, one.frame, said) for one in previews if (said := words.get((one.ref, one.frame), ""))
    )
