"""Which of a study's instances a model is shown: its films, or, for a model that reads them, planes of one series."""

from collections.abc import Sequence

from pipeline.accepts import Accepts
from pipeline.errors import SkipStudy
from pipeline.images.prepare import StudyHeaders, prepare, read_headers
from pipeline.images.volumes.slices import has_slices, prepare_slices
from pipeline.study import FetchedStudy, ImageSet, StudyContext


def prepare_for(
    study: FetchedStudy,
    read: StudyHeaders | None = None,
    *,
    laterals: bool = False,
    accepts: Sequence[Accepts] = (),
) -> tuple[StudyContext, ImageSet]:
    """As ``prepare``; a study without a film for the model is shown by planes where ``accepts`` names its slices.

    Raises as ``prepare`` and ``prepare_slices``.
    """
    read = read or read_headers(study)
    try:
        return prepare(study, read, laterals=laterals)
    except SkipStudy:
        if not has_slices(read.headers, accepts):
            raise
    return prepare_slices(study, read.headers, read.left_out, accepts)
