"""Images: from a study's files to what a model may see.

``prepare`` chooses the reportable instances, decodes and shows them at working size, and says what it left
out; ``preview`` makes a small picture for people; ``probe_decoders`` proves at start that every pinned decoder
decodes.
"""

from pipeline.images.limits import ImageLimits
from pipeline.images.prepare import prepare
from pipeline.images.preview import preview
from pipeline.images.probe import probe_decoders

__all__ = ["ImageLimits", "prepare", "preview", "probe_decoders"]
