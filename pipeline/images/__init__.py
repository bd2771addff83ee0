"""Images: from a study's files to what a model may see.

``prepare`` chooses the reportable instances, decodes and shows them at working size, and says what it left
out; ``film_manifest`` tells whether a study changed for a model; ``preview`` makes a small picture for people;
``refuse_without_film`` says by an archive's listing that nothing of a study is worth retrieving;
``probe_decoders`` proves at start that every pinned decoder decodes.
"""

from pipeline.images.films import FilmManifest, film_manifest
from pipeline.images.limits import ImageLimits
from pipeline.images.listing import names_radiography, refuse_without_film
from pipeline.images.prepare import StudyHeaders, prepare, read_headers
from pipeline.images.preview import preview
from pipeline.images.probe import probe_decoders

__all__ = [
    "FilmManifest",
    "ImageLimits",
    "StudyHeaders",
    "film_manifest",
    "names_radiography",
    "prepare",
    "preview",
    "probe_decoders",
    "read_headers",
    "refuse_without_film",
]
