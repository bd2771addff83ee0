"""From a fetched study to what a model may see: choose, decode, show, resize, and say what was left out and
why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.choose import LATERAL_NOT_USED, Candidate, Reason, judge
from pipeline.images.context import instance_ref, study_context
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.grey import display
from pipeline.images.headers import Header, integer, read_header, text
from pipeline.images.limits import ImageLimits
from pipeline.images.scale import pixel_aspect, resized, spacing_mm, working_size
from pipeline.study import FetchedStudy, ImageSet, LeftOut, StudyContext, StudyImage

DEFAULT_LIMITS = ImageLimits()
_SKIP_ORDER = (
    "lateral-view", "other-view", "secondary-image", "processed-image", "for-processing",
    "body-part-contradicted", "body-part-unknown", "not-chest", "secondary-capture", "not-radiograph",
)  # fmt: skip
"""Which reason names a study that has nothing for the model: the one nearest to a usable film."""


@dataclass(frozen=True, slots=True)
class StudyHeaders:
    """The headers of a study's instances, and those that cannot be used whatever they show, with the reason."""

    headers: tuple[Header, ...]
    left_out: tuple[LeftOut, ...]


def prepare(
    study: FetchedStudy,
    read: StudyHeaders | None = None,
    *,
    longest_side: int = 1024,
    limits: ImageLimits = DEFAULT_LIMITS,
    laterals: bool = False,
) -> tuple[StudyContext, ImageSet]:
    """The study's context and its frontal chest films, best first, at most ``longest_side`` pixels on a side.

    With ``laterals`` the best lateral film follows the frontal ones; alone it makes no study for a model. Every other
    instance is in ``left_out`` with a reason. ``read`` is what ``read_headers`` gave, where it was asked before. Raises
    SkipStudy where no instance is a film for this model, and FailStudy where one may be and cannot be used:
    "undecodable", "mixed-patients", "no-instances".
    """
    read = read or read_headers(study, limits)
    headers, left_out = read.headers, list(read.left_out)
    damaged = bool(left_out)
    refuse_mixed_patients(headers)
    candidates: list[Candidate] = []
    for header in headers:
        verdict = judge(header, laterals=laterals)
        if isinstance(verdict, Reason):
            left_out.append(_left_out(header, verdict))
        else:
            candidates.append(verdict)
    if all(candidate.lateral for candidate in candidates):
        left_out += [_left_out(candidate.header, LATERAL_NOT_USED) for candidate in candidates]
        raise _nothing_to_use(left_out, damaged)
    images = _images(candidates, left_out, longest_side, limits)
    context = study_context(study.study_instance_uid, list(headers))
    return context, ImageSet(study.study_instance_uid, images, tuple(left_out))


def prepare_image(
    candidate: Candidate, longest_side: int, limits: ImageLimits = DEFAULT_LIMITS
) -> StudyImage:
    """Decode one film and bring it to working size. Raises FailStudy with the reason."""
    header, dataset = candidate.header, candidate.header.dataset
    declared = declared_pixels(header, limits)
    frame = chosen_frame(header, declared.frames)
    film = display(stored_values(header, declared, frame, limits), dataset)
    size = working_size(declared.rows, declared.columns, pixel_aspect(dataset), longest_side)
    return StudyImage(
        ref=instance_ref(dataset),
        frame=frame,
        pixels=resized(film, size),
        original_rows=declared.rows,
        original_columns=declared.columns,
        spacing_mm=spacing_mm(dataset),
        modality=text(dataset, "Modality"),
        body_part="CHEST",
        view=candidate.view,
        photometric_interpretation=declared.photometric,
    )


def chosen_frame(header: Header, frames: int) -> int:
    """The frame used of a multi-frame film, from 0: Representative Frame Number, else the first."""
    representative = integer(header.dataset, "RepresentativeFrameNumber")
    return representative - 1 if representative is not None and 1 <= representative <= frames else 0


def read_headers(study: FetchedStudy, limits: ImageLimits = DEFAULT_LIMITS) -> StudyHeaders:
    """Read every held instance up to its pixels, in the order of their UIDs."""
    left_out = [LeftOut(one.sop_instance_uid, one.code, one.message) for one in study.damaged]
    headers: list[Header] = []
    seen: set[str] = set()
    for held in sorted(study.held, key=lambda h: h.ref):
        uid = held.ref.sop_instance_uid
        try:
            header = read_header(held.path, limits)
        except FailStudy as error:
            left_out.append(LeftOut(uid, error.code, error.message))
            continue
        ref = instance_ref(header.dataset)
        if ref.study_instance_uid != study.study_instance_uid or not ref.sop_instance_uid:
            left_out.append(LeftOut(uid, "other-study", "its own UIDs are missing or name another study"))
        elif ref.sop_instance_uid in seen:
            left_out.append(LeftOut(uid, "duplicate-uid", "another instance has the same SOP Instance UID"))
        else:
            seen.add(ref.sop_instance_uid)
            headers.append(header)
    return StudyHeaders(tuple(headers), tuple(left_out))


def refuse_mixed_patients(headers: Sequence[Header]) -> None:
    """Raises FailStudy("mixed-patients") where the headers name more than one PatientID."""
    patients = {found for header in headers if (found := text(header.dataset, "PatientID"))}
    if len(patients) > 1:
        raise FailStudy(
            "mixed-patients", "the study's instances name different patients; correct them in the archive"
        )


def _images(
    candidates: list[Candidate], left_out: list[LeftOut], longest_side: int, limits: ImageLimits
) -> tuple[StudyImage, ...]:
    """Decode the candidates, best first; one that cannot be decoded makes room for its other rendering."""
    images: list[StudyImage] = []
    exposures: set[tuple[str, ...] | None] = set()
    failures: list[FailStudy] = []
    lateral = False
    for candidate in sorted(candidates, key=lambda one: one.order):
        reason = _superfluous(candidate, len(images), exposures, limits)
        if candidate.lateral and (lateral or not images):
            reason = LATERAL_NOT_USED
        if reason is None:
            try:
                images.append(prepare_image(candidate, longest_side, limits))
                exposures.add(candidate.exposure)
                lateral = candidate.lateral
                continue
            except FailStudy as error:
                failures.append(error)
                reason = Reason(error.code, error.message)
        left_out.append(_left_out(candidate.header, reason))
    if not images:
        codes = ", ".join(sorted({failure.code for failure in failures}))
        raise FailStudy("undecodable", f"no chest film can be used ({codes}): {failures[0].message}")
    return tuple(images)


def _superfluous(
    candidate: Candidate, used: int, exposures: set[tuple[str, ...] | None], limits: ImageLimits
) -> Reason | None:
    if used and candidate.secondary:
        return Reason("secondary-image", "made from another image of this study")
    if candidate.exposure is not None and candidate.exposure in exposures:
        return Reason("same-exposure", "another rendering of an exposure that is used")
    if used == limits.max_images:
        return Reason("over-limit", "enough films of this study are used")
    return None


def _left_out(header: Header, reason: Reason) -> LeftOut:
    return LeftOut(text(header.dataset, "SOPInstanceUID"), reason.code, reason.message)


def _nothing_to_use(left_out: list[LeftOut], damaged: bool) -> FailStudy | SkipStudy:
    if not left_out:
        return FailStudy("no-instances", "the archive holds no instance of this study")
    if damaged:
        return FailStudy("unreadable", f"no usable film, and files are damaged: {left_out[0].message}")
    nearest = min(left_out, key=lambda one: _SKIP_ORDER.index(one.code))
    return SkipStudy(nearest.code, f"no frontal chest radiograph: {nearest.message}")
