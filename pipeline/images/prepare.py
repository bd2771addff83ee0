"""From a fetched study to what a model may see: choose, decode, show, resize, and say what was left out and
why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.accepts import USUAL_SIDE
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.captions import caption
from pipeline.images.choose import LATERAL_NOT_USED, Candidate, Reason, best_first
from pipeline.images.context import instance_ref, odd_values, study_context
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.grey import display
from pipeline.images.headers import Header, integer, read_header, text
from pipeline.images.identity import one_patient
from pipeline.images.limits import ImageLimits
from pipeline.images.orientation import Presented, apply_shutters, presentation_states, presented
from pipeline.images.scale import pixel_aspect, resized, spacing_mm, working_size
from pipeline.images.selection import judge_all
from pipeline.images.site_rules import SiteRule, rule_remarks, ruled
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.study import FetchedStudy, ImageSet, LeftOut, LeftOutReason, Remark, StudyImage
from pipeline.study_context import StudyContext

DEFAULT_LIMITS = ImageLimits()
_SKIP_ORDER = tuple(LeftOutReason)
LENIENT = {
    "no-file-meta": "it has no file meta group, its encoding was recognised",
    "no-preamble": "it has no preamble",
    "meta-length": "the length of its file meta group is wrong",
    "meta-uid": "its file meta group, or who sent it, names another instance than its data set",
    "unknown-vr": "an element of an unknown kind was passed over",
    "sequence-form": "the lengths or delimiters of an element were set right",
    "no-syntax": "its file meta group names no transfer syntax, its encoding was recognised",
    "encoding": "its data set is encoded otherwise than its transfer syntax says",
    "bytes-after": "bytes behind the pixels were passed over",
}
_OF_THE_DECODER = ("decoder-died", "decoder-slow")
"""What another version may mend; every other reason lies in the file."""
_BURNED_IN = Remark("burned-in-text", "the header says that identifying text is drawn into a film")


@dataclass(frozen=True)
class StudyHeaders:
    """The headers of a study's instances, and those that cannot be used whatever they show, with the reason."""

    headers: tuple[Header, ...]
    left_out: tuple[LeftOut, ...]

    @cached_property
    def remarks(self) -> tuple[Remark, ...]:
        """What of all headers a reader should know; judged once. Raises FailStudy("mixed-patients")."""
        odd = odd_values([header.dataset for header in self.headers])
        return one_patient(self.headers) + rule_remarks(self.headers) + odd + _made(self.headers)


def prepare(
    study: FetchedStudy,
    read: StudyHeaders | None = None,
    *,
    sides: Sequence[int] = (USUAL_SIDE,),
    limits: ImageLimits = DEFAULT_LIMITS,
    laterals: bool = False,
    trust: SiteTrust = HEADERS_ALONE,
) -> tuple[StudyContext, ImageSet]:
    """The study's context and its frontal chest films, best first, at most ``sides[0]`` pixels on a side.

    The smaller ones of ``sides`` are made beside it (``StudyImage.smaller``). With ``laterals`` the best lateral film
    follows the frontal ones; alone it makes no study for a model. Every other instance is in ``left_out`` with a
    reason. ``trust`` fills what headers leave out. ``read`` is what ``read_headers`` gave, where it was asked before.
    Raises SkipStudy where no instance is a film for this model, and FailStudy where one may be and cannot be used:
    "undecodable", "mixed-patients", "no-instances".
    """
    read = read or read_headers(study, limits)
    headers, left_out = read.headers, list(read.left_out)
    damaged = any(one.code != LeftOutReason.SITE_RULE for one in left_out)
    remarks = study_remarks(study, read)
    candidates: list[Candidate] = []
    for header, verdict in judge_all(headers, laterals=laterals, trust=trust):
        if isinstance(verdict, Reason):
            left_out.append(_left_out(header, verdict))
        else:
            candidates.append(verdict)
    if all(candidate.lateral for candidate in candidates):
        left_out += [_left_out(candidate.header, LATERAL_NOT_USED) for candidate in candidates]
        raise _nothing_to_use(left_out, damaged)
    states = presentation_states(headers)
    shown = {
        candidate.header.path: presented(candidate.header.dataset, states, lateral=candidate.lateral)
        for candidate in candidates
    }
    images = _images(candidates, shown, left_out, sides, limits)
    used = {image.ref.sop_instance_uid for image in images}
    taken = [one for one in candidates if text(one.header.dataset, "SOPInstanceUID") in used]
    for candidate in taken:
        remarks += shown[candidate.header.path].remarks + candidate.trusted
    remarks += _repeats(taken)
    if any(image.burned_in for image in images):
        remarks += (_BURNED_IN,)
    context = study_context(study.study_instance_uid, list(headers))
    return context, ImageSet(
        study.study_instance_uid, images, tuple(left_out), remarks=tuple(dict.fromkeys(remarks))
    )


def prepare_image(
    candidate: Candidate,
    sides: Sequence[int],
    limits: ImageLimits = DEFAULT_LIMITS,
    shown: Presented | None = None,
) -> StudyImage:
    """Decode one film, turn it upright and bring it to each working size. Raises FailStudy with the reason."""
    header, dataset = candidate.header, candidate.header.dataset
    declared = declared_pixels(header, limits)
    frame = chosen_frame(header, declared.frames)
    shown = shown or presented(dataset, (), lateral=candidate.lateral)
    film = display(stored_values(header, declared, frame, limits), dataset, little=header.little)
    film = apply_shutters(film, shown.shutters)
    aspect = pixel_aspect(dataset)
    sizes = dict.fromkeys(working_size(declared.rows, declared.columns, aspect, side) for side in sides)
    pixels, *smaller = (np.ascontiguousarray(shown.turn.of(resized(film, size))) for size in sizes)
    rows, columns = shown.turn.sides((declared.rows, declared.columns))
    spacing = spacing_mm(dataset)
    return StudyImage(
        ref=instance_ref(dataset),
        frame=frame,
        pixels=pixels,
        original_rows=rows,
        original_columns=columns,
        spacing_mm=spacing and shown.turn.sides(spacing),
        modality=text(dataset, "Modality"),
        body_part="CHEST",
        view=candidate.view,
        photometric_interpretation=declared.photometric,
        turn=shown.turn,
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        caption=caption(dataset, frame, declared.frames, candidate.view or "view not said"),
        smaller=tuple(smaller),
    )


def chosen_frame(header: Header, frames: int) -> int:
    """The frame used of a multi-frame film, from 0: Representative Frame Number, else the first."""
    representative = integer(header.dataset, "RepresentativeFrameNumber")
    return representative - 1 if representative is not None and 1 <= representative <= frames else 0


def read_headers(
    study: FetchedStudy, limits: ImageLimits = DEFAULT_LIMITS, *, rules: Sequence[SiteRule] = ()
) -> StudyHeaders:
    """Read every held instance up to its pixels, in the order of their UIDs, and put it as the site's ``rules`` say."""
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
            header, rule = ruled(header, rules)
            if rule is not None and not rule.says:
                left_out.append(LeftOut(uid, LeftOutReason.SITE_RULE, f"by this site's {rule}"))
            else:
                headers.append(header)
    return StudyHeaders(tuple(headers), tuple(left_out))


def study_remarks(study: FetchedStudy, read: StudyHeaders) -> tuple[Remark, ...]:
    """What of the study's headers and files a reader should know, whatever of it is shown.

    Raises FailStudy("mixed-patients").
    """
    return read.remarks + _lenience(study)


def _made(headers: Sequence[Header]) -> tuple[Remark, ...]:
    """A remark where images say that they were not acquired but made (Synthetic Data, PS3.3 C.12.1)."""
    if not any(text(header.dataset, "SyntheticData").upper() == "YES" for header in headers):
        return ()
    return (Remark("synthetic-data", "the header says that an image of this study was made artificially"),)


def _lenience(study: FetchedStudy) -> tuple[Remark, ...]:
    """A remark for each kind of file that was read although it is not as the standard says."""
    codes = sorted({code for held in study.held for code in held.lenience})
    return tuple(
        Remark("file-form", f"a file was read leniently: {LENIENT[code]}")
        for code in codes
        if code in LENIENT
    )


def _images(
    candidates: list[Candidate],
    shown: Mapping[Path, Presented],
    left_out: list[LeftOut],
    sides: Sequence[int],
    limits: ImageLimits,
) -> tuple[StudyImage, ...]:
    """Decode the candidates, best first; one that cannot be decoded makes room for its other rendering."""
    images: list[StudyImage] = []
    times: list[str] = []
    exposures: set[tuple[str, ...] | None] = set()
    failures: list[FailStudy] = []
    lateral = False
    for candidate in best_first(candidates):
        reason = _superfluous(candidate, len(images), exposures, limits)
        if candidate.lateral and (lateral or not images):
            reason = LATERAL_NOT_USED
        if reason is None:
            try:
                image = prepare_image(candidate, sides, limits, shown[candidate.header.path])
                if any(
                    taken == candidate.taken and _is_same_picture(image, other)
                    for taken, other in zip(times, images, strict=True)
                ):
                    reason = Reason(LeftOutReason.SAME_EXPOSURE, "the same picture as one that is used")
                else:
                    images.append(image)
                    times.append(candidate.taken)
                    exposures.add(candidate.exposure)
                    lateral = candidate.lateral
                    continue
            except FailStudy as error:
                failures.append(error)
                reason = Reason(error.code, error.message)
        left_out.append(_left_out(candidate.header, reason))
    if not images:
        codes = sorted({failure.code for failure in failures})
        code = codes[0] if len(codes) == 1 and codes[0] in _OF_THE_DECODER else "undecodable"
        raise FailStudy(code, f"no chest film can be used ({', '.join(codes)}): {failures[0].message}")
    return tuple(images)


def _is_same_picture(one: StudyImage, other: StudyImage) -> bool:
    """Whether a film came twice, under two SOP Instance UIDs."""
    return one.view == other.view and np.array_equal(one.pixels, other.pixels)


def _repeats(used: Sequence[Candidate]) -> tuple[Remark, ...]:
    """A remark for each view of which films from several moments are used, and no note rejects one."""
    moments: dict[str, list[str]] = {}
    for one in used:
        if one.taken and one.taken not in moments.setdefault(one.view, []):
            moments[one.view].append(one.taken)
    return tuple(
        Remark(
            "repeated-view",
            f"{len(taken)} films of one view ({view or 'view not said'}) are used, none is rejected: the later leads",
        )
        for view, taken in moments.items()
        if len(taken) > 1
    )


def _superfluous(
    candidate: Candidate, used: int, exposures: set[tuple[str, ...] | None], limits: ImageLimits
) -> Reason | None:
    if used and candidate.secondary:
        return Reason(LeftOutReason.SECONDARY_IMAGE, "made from another image of this study")
    if candidate.exposure is not None and candidate.exposure in exposures:
        return Reason(LeftOutReason.SAME_EXPOSURE, "another rendering of an exposure that is used")
    if used == limits.max_images:
        return Reason(LeftOutReason.OVER_LIMIT, "enough films of this study are used")
    return None


def _left_out(header: Header, reason: Reason) -> LeftOut:
    return LeftOut(text(header.dataset, "SOPInstanceUID"), str(reason.code), reason.message)


def _nothing_to_use(left_out: list[LeftOut], damaged: bool) -> FailStudy | SkipStudy:
    if not left_out:
        return FailStudy("no-instances", "the archive holds no instance of this study")
    if damaged:
        return FailStudy("unreadable", f"no usable film, and files are damaged: {left_out[0].message}")
    nearest = min(left_out, key=lambda one: _SKIP_ORDER.index(one.code))
    return SkipStudy(nearest.code, f"no frontal chest radiograph: {nearest.message}")
