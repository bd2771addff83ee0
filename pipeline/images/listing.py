"""What an archive's listing says before anything is retrieved: whether a study can hold a film for a model at all."""

from collections.abc import Collection, Sequence

from pipeline.errors import SkipStudy
from pipeline.images.choose import CR_IMAGE, DX_PRESENTATION, DX_PROCESSING, RADIOGRAPHY, SECONDARY_CAPTURE


def names_radiography(modalities: Collection[str]) -> bool:
    """Whether Modalities in Study (0008,0061) names a modality of films."""
    return bool(RADIOGRAPHY & {one.strip().upper() for one in modalities})


def refuse_without_film(modalities: Collection[str], sop_class_uids: Sequence[str]) -> None:
    """Raises SkipStudy if ``judge`` would leave out every instance, by what is listed alone.

    ``modalities`` is Modalities in Study, ``sop_class_uids`` has one for each instance, "" where the archive does not
    say. Where it says some and not others the files are looked at: one may be damaged.
    """
    told = [uid for uid in sop_class_uids if uid]
    if told and len(told) < len(sop_class_uids):
        return
    if any(modalities) and not names_radiography(modalities):
        raise SkipStudy("not-radiograph", "the archive lists no projection radiograph (Modalities in Study)")
    if told and DX_PROCESSING in told and not any(map(_may_be_film, told)):
        raise SkipStudy("for-processing", "the archive lists raw detector images alone (SOP Class)")
    if told and not any(map(_may_be_film, told)):
        raise SkipStudy("not-radiograph", "the archive lists no CR or DX image (SOP Class)")


def _may_be_film(sop_class_uid: str) -> bool:
    return sop_class_uid in (CR_IMAGE, DX_PRESENTATION) or (
        f"{sop_class_uid}.".startswith(f"{SECONDARY_CAPTURE}.")
    )
