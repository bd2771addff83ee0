"""Images: from a study's files to what a model may see.

``prepare_for`` chooses what a model may see (films by ``prepare``, planes of a series by ``volumes``), decodes it and
shows it at working size, and says what it left out; ``film_manifest`` tells whether a study changed for a model;
``preview`` makes a small picture for people; ``refuse_unreadable`` says by an archive's listing that nothing of a study
is worth retrieving, ``left_in_the_archive`` what of it is not; ``probe_decoders`` proves at start that every pinned
decoder decodes.
"""

from pipeline.images.films import FilmManifest, film_manifest
from pipeline.images.for_model import prepare_for
from pipeline.images.limits import ImageLimits
from pipeline.images.listing import all_films, left_in_the_archive, names_readable, refuse_unreadable
from pipeline.images.prepare import StudyHeaders, prepare, read_headers
from pipeline.images.preview import preview, shown_to_people
from pipeline.images.probe import probe_decoders

__all__ = [
    "FilmManifest",
    "ImageLimits",
    "StudyHeaders",
    "all_films",
    "film_manifest",
    "left_in_the_archive",
    "names_readable",
    "prepare",
    "prepare_for",
    "preview",
    "probe_decoders",
    "read_headers",
    "refuse_unreadable",
    "shown_to_people",
]
