"""What an archive's listing says before anything is retrieved: whether a study can hold a film for a model at all."""

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.accepts import FILMS_ALONE, Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images.choose import CR_IMAGE, DX_PRESENTATION, DX_PROCESSING, RADIOGRAPHY
from pipeline.images.kinds import (
    SECONDARY_CAPTURE,
    accepted_by_listing,
    in_words_by_listing,
    is_one_plane,
    modalities_of,
    modality_by_class,
    read_by_class,
)
from pipeline.study import AnnouncedInstance, LeftOutReason, UnfetchedInstance


def names_readable(modalities: Collection[str], accepts: Sequence[Accepts] = ()) -> bool:
    """Whether Modalities in Study (0008,0061) names a modality of films, or one that ``accepts`` names."""
    read = RADIOGRAPHY | modalities_of(accepts)
    return bool(read & {one.strip().upper() for one in modalities})


def all_films(modalities: Collection[str]) -> bool:
    """Whether Modalities in Study names modalities, and those of films alone."""
    return bool(modalities) and {one.strip().upper() for one in modalities} <= RADIOGRAPHY


def refuse_unreadable(
    modalities: Collection[str], sop_class_uids: Sequence[str], reader: StudyReader = FILMS_ALONE
) -> None:
    """Raises SkipStudy if every instance would be left out for ``reader``, by what is listed alone.

    ``modalities`` is Modalities in Study, ``sop_class_uids`` has one for each instance, "" where the archive does not
    say. Where it says some and not others the files are looked at: one may be damaged.
    """
    told = [uid for uid in sop_class_uids if uid]
    if told and len(told) < len(sop_class_uids):
        return
    if any(accepted_by_listing(uid, reader.accepts) for uid in told):
        return
    if any(modalities) and not names_readable(modalities, reader.accepts):
        raise SkipStudy(
            LeftOutReason.NOT_RADIOGRAPH,
            f"the archive lists {_listed(told, modalities)} (Modalities in Study); {reader.reads}",
        )
    if told and DX_PROCESSING in told and not any(map(_may_be_film, told)):
        raise SkipStudy(
            LeftOutReason.FOR_PROCESSING, "the archive lists raw detector images alone (SOP Class)"
        )
    if told and not any(map(_may_be_film, told)):
        raise SkipStudy(
            LeftOutReason.NOT_RADIOGRAPH,
            f"the archive lists {_listed(told, modalities)} (SOP Class); {reader.reads}",
        )


def left_in_the_archive(
    announced: Sequence[AnnouncedInstance], reader: StudyReader
) -> tuple[UnfetchedInstance, ...]:
    """Of a study's list what ``reader`` cannot be shown whatever its header says: by class, and single planes in a
    series of fewer than are shown.

    Nothing of a study of which all would be left, nor what the archive names no class for.
    """
    least = min((one.least for one in reader.accepts if one.kind is Kind.SLICES), default=1)
    planes = Counter(one.ref.series_instance_uid for one in announced if is_one_plane(one.sop_class_uid))
    left = []
    for one in announced:
        uid, count = one.sop_class_uid, planes[one.ref.series_instance_uid]
        if not uid:
            continue
        if not read_by_class(uid, reader.accepts):
            what = in_words_by_listing(uid) or "an object of an unknown class"
            why = f"{what} by the archive's list; {reader.reads}: it was not retrieved"
        elif is_one_plane(uid) and count < least:
            why = f"one of {count} planes of a series by the archive's list, {least} or more are shown: not retrieved"
        else:
            continue
        left.append(UnfetchedInstance(one.ref, uid, modality_by_class(uid), why))
    return tuple(left) if len(left) < len(announced) else ()


def _may_be_film(sop_class_uid: str) -> bool:
    return sop_class_uid in (CR_IMAGE, DX_PRESENTATION) or (
        f"{sop_class_uid}.".startswith(f"{SECONDARY_CAPTURE}.")
    )


def _listed(sop_class_uids: Sequence[str], modalities: Collection[str]) -> str:
    """What is listed, in words that hold no text of the archive's."""
    words = [in_words_by_listing(uid) for uid in sop_class_uids]
    words += [in_words_by_listing("", one) for one in modalities] if not any(words) else []
    named = [one for one in dict.fromkeys(words) if one]
    return " and ".join(named[:3]) or "other objects"
