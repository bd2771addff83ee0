"""The size in which a film is shown to a model: its own, whatever other models share the study."""

from collections.abc import Sequence
from dataclasses import replace

from models.catalog import show
from models.model_choice import ModelChoice
from pipeline.study import ImageSet, StudyImage


def longest_side(choice: ModelChoice) -> int:
    """Pixels that the longest side of a film of the chest has at most; a server is sent ``endpoint.max_side``."""
    return show(choice.id).reader.longest_side if choice.endpoint is None else choice.endpoint.max_side


def in_size(studies: Sequence[ImageSet], side: int) -> list[ImageSet]:
    """``studies`` whose images are at most ``side`` pixels long, where they were made in such a size."""
    return [
        replace(study, images=_each(study.images, side), priors=_each(study.priors, side))
        for study in studies
    ]


def _each(images: Sequence[StudyImage], side: int) -> tuple[StudyImage, ...]:
    return tuple(_in_size(image, side) for image in images)


def _in_size(image: StudyImage, side: int) -> StudyImage:
    """The largest of its sizes that is no longer than ``side``; the smallest there is where none is."""
    sizes = (image.pixels, *image.smaller)
    fitting = [pixels for pixels in sizes if max(pixels.shape[:2]) <= side]
    return replace(image, pixels=fitting[0] if fitting else sizes[-1], smaller=())
