"""Which of a study's instances a model is shown: its films, or what else it reads: planes of one series, pictures."""

from collections.abc import Sequence

from pipeline.accepts import Accepts
from pipeline.errors import SkipStudy
from pipeline.images.pictures import has_pictures, prepare_pictures
from pipeline.images.prepare import StudyHeaders, prepare, read_headers
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.images.volumes.slices import has_slices, prepare_slices
from pipeline.study import FetchedStudy, ImageSet, StudyContext


def prepare_for(
    study: FetchedStudy,
    read: StudyHeaders | None = None,
    *,
    laterals: bool = False,
    accepts: Sequence[Accepts] = (),
    trust: SiteTrust = HEADERS_ALONE,
) -> tuple[StudyContext, ImageSet]:
    """As ``prepare``; of a study without a film of the chest what ``accepts`` names is shown, planes before pictures.

    Raises as ``prepare``, ``prepare_slices`` and ``prepare_pictures``.
    """
    read = read or read_headers(study)
    try:
        return prepare(study, read, laterals=laterals, trust=trust)
    except SkipStudy:
        slices, pictures = has_slices(read.headers, accepts), has_pictures(read.headers, accepts)
        if not slices and not pictures:
            raise
    how = prepare_slices if slices else prepare_pictures
    return how(study, read.headers, read.left_out, accepts)
