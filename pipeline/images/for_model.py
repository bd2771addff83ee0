"""Which of a study's instances a model is shown: its films, or what else it reads: planes of one series, pictures."""

from dataclasses import replace

from pipeline.accepts import FILMS_ALONE, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images.admission import refusal
from pipeline.images.pictures import has_pictures, prepare_pictures
from pipeline.images.prepare import StudyHeaders, prepare, read_headers
from pipeline.images.slides import has_slides, prepare_slides
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.images.volumes.slices import has_slices, prepare_slices
from pipeline.study import FetchedStudy, ImageSet, LeftOut, LeftOutReason
from pipeline.study_context import InstanceDescription, StudyContext


def prepare_for(
    study: FetchedStudy,
    read: StudyHeaders | None = None,
    reader: StudyReader = FILMS_ALONE,
    *,
    trust: SiteTrust = HEADERS_ALONE,
) -> tuple[StudyContext, ImageSet]:
    """As ``prepare``; of a study without a film of the chest what ``reader`` accepts is shown: planes, else slides,
    else pictures.

    Raises as ``prepare``, ``prepare_slices``, ``prepare_slides`` and ``prepare_pictures``; what is no kind that is read
    is refused in words. What stays in the archive is listed and left out like the rest.
    """
    context, images = _prepared(study, read or read_headers(study), reader, trust)
    if not study.unfetched:
        return context, images
    left_out = tuple(
        LeftOut(one.ref.sop_instance_uid, LeftOutReason.NOT_RETRIEVED, one.why) for one in study.unfetched
    )
    listed = tuple(InstanceDescription(one.ref, one.sop_class_uid, one.modality) for one in study.unfetched)
    return (
        replace(context, instances=context.instances + listed),
        replace(images, left_out=images.left_out + left_out),
    )


def _prepared(
    study: FetchedStudy, read: StudyHeaders, reader: StudyReader, trust: SiteTrust
) -> tuple[StudyContext, ImageSet]:
    try:
        sides = (reader.longest_side, *reader.smaller_sides)
        return prepare(study, read, sides=sides, laterals=reader.laterals, trust=trust)
    except SkipStudy as reason:
        slices = has_slices(read.headers, reader.accepts)
        slides = not slices and has_slides(read.headers, reader.accepts)
        if not slices and not slides and not has_pictures(read.headers, reader.accepts):
            raise refusal(read.headers, reader, reason) from None
    how = prepare_slices if slices else prepare_slides if slides else prepare_pictures
    return how(study, read, reader.accepts)
