"""Volumes: from the single planes of CT, MR and PET to stacks that geometry proves, and their values.

``planes_of`` reads the planes of one instance, classic or enhanced, and says why it has none; ``stacks_of`` puts
planes together by position and orientation, never by number or file name; ``read_volume`` decodes a stack into one
array with its affine. Each refuses by name what it cannot place.
"""

from pipeline.images.volumes.plane import Plane, planes_of
from pipeline.images.volumes.stack import Stack, stacks_of
from pipeline.images.volumes.voxels import Volume, read_volume

__all__ = ["Plane", "Stack", "Volume", "planes_of", "read_volume", "stacks_of"]
