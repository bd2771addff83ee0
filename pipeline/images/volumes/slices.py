"""A CT, MR or PET study as pictures for a model: one stack of one series, its planes sampled and shown upright.

A model that reads several pictures of a study is given planes of one stack, from feet to head (right to left, front to
back); which stack, and how many of its planes, is written on the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.accepts import Accepts, Kind
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.admission import accepting
from pipeline.images.captions import plane_caption, range_shown
from pipeline.images.choose import Reason
from pipeline.images.context import study_context
from pipeline.images.grey import PERCENTILES
from pipeline.images.headers import Header, integer, text
from pipeline.images.kinds import in_words, modality_of
from pipeline.images.prepare import StudyHeaders, study_remarks
from pipeline.images.sampling import by_steps, evenly
from pipeline.images.scale import resized, working_size
from pipeline.images.volumes.maps import USUAL_KEV, is_changed, is_map, refuse_other_unit, virtual_kev
from pipeline.images.volumes.plane import Plane, planes_of
from pipeline.images.volumes.room import VOLUMES
from pipeline.images.volumes.stack import Stack, stacks_of
from pipeline.images.volumes.suv import Factor, suv_factor
from pipeline.images.volumes.voxels import PLANE_LIMITS, plane_values, read_volume
from pipeline.images.volumes.windows import SOFT_TISSUE, header_window, in_range, is_sigmoid
from pipeline.study import (
    FetchedStudy,
    ImageSet,
    LeftOut,
    LeftOutReason,
    Remark,
    StudyImage,
    StudyVolume,
    Turn,
)
from pipeline.study_context import StudyContext

UPTAKE = (0.0, 10.0)
"""What PET is shown in where the model names no range, in SUV by body weight."""
_SAMPLED_FOR_RANGE = 64
"""Planes that the range of MR and PET is taken from, evenly chosen."""
MOST_KEPT = 64 << 20
"""Bytes of decoded planes that are kept between the two."""
_Decoded = tuple[NDArray[np.float32], NDArray[np.bool_] | None]
_ACROSS = {"axial": (1.0, 0.0, 0.0), "coronal": (1.0, 0.0, 0.0), "sagittal": (0.0, 1.0, 0.0)}
_DOWN = {"axial": (0.0, 1.0, 0.0), "coronal": (0.0, 0.0, -1.0), "sagittal": (0.0, 0.0, -1.0)}
"""Where columns and rows of an upright picture count to (LPS): the patient's left at the viewer's right, the head on
top, in a sagittal plane the face at the viewer's left."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    stack: Stack
    accepted: Accepts
    uptake: Factor | None
    """What leads from the values of PET to SUV, or why nothing does; None of other modalities."""

    @property
    def order(self) -> tuple[bool, bool, bool, float, int, float, int, str]:
        """Best first: images before maps and before what a material was taken from, axial, then what covers most, then
        most planes, then the virtual energy that is nearest to a usual one, then as numbered.
        """
        planes = self.stack.planes
        covered = float(np.linalg.norm(self.stack.step or (0.0, 0.0, 0.0))) * (len(planes) - 1)
        number = integer(planes[0].header.dataset, "SeriesNumber") or 0
        kev = virtual_kev(self.stack)
        return (is_map(self.stack), is_changed(self.stack), self.stack.orientation != "axial", -round(covered, 1),
                -len(planes), abs(kev - USUAL_KEV) if kev else 0.0, number,
                planes[0].ref.series_instance_uid)  # fmt: skip


def has_slices(headers: Sequence[Header], accepts: Sequence[Accepts]) -> bool:
    """Whether any instance is a plane that one of ``accepts`` names."""
    return any(_accepting(header, accepts) for header in headers)


def prepare_slices(
    study: FetchedStudy,
    read: StudyHeaders,
    accepts: Sequence[Accepts],
    *,
    longest_side: int = 1024,
) -> tuple[StudyContext, ImageSet]:
    """The study's context, and planes of its best stack for a model that ``accepts`` slices.

    Every instance of no use is in ``left_out`` with a reason. Raises SkipStudy where no stack is one for this model
    (the code names the nearest reason: "too-few-planes", "missing-planes", "irregular-volume", ...), FailStudy:
    "mixed-patients", "undecodable".
    """
    headers = read.headers
    remarks = study_remarks(study, read)
    unused = list(read.left_out)
    planes: list[Plane] = []
    for header in headers:
        found = _planes(header, accepts)
        if isinstance(found, Reason):
            unused.append(LeftOut(text(header.dataset, "SOPInstanceUID"), found.code, found.message))
        else:
            planes += found
    stacks, astray = stacks_of(planes)
    reasons = [(plane, reason) for plane, reason in astray]
    ranked: list[_Ranked] = []
    for stack in stacks:
        accepted = _accepting(stack.planes[0].header, accepts)
        assert accepted is not None
        uptake = suv_factor(stack.planes) if modality_of(stack.planes[0].header.dataset) == "PT" else None
        reason = _unusable(stack, accepted)
        if reason is None and accepted.suv and isinstance(uptake, Reason):
            reason = uptake
        if reason is None:
            ranked.append(_Ranked(stack, accepted, uptake))
        else:
            reasons += [(plane, reason) for plane in stack.planes]
    if not ranked:
        raise _nothing_to_use(reasons, unused)
    ranked.sort(key=lambda one: one.order)
    best = ranked[0]
    other = Reason(LeftOutReason.OTHER_SERIES, "another series of the same study is shown to the model")
    reasons += [(plane, other) for one in ranked[1:] for plane in one.stack.planes]
    used = {plane.ref for plane in best.stack.planes}
    named = {plane.ref: reason for plane, reason in reasons if plane.ref not in used}
    unused += [LeftOut(ref.sop_instance_uid, reason.code, reason.message) for ref, reason in named.items()]
    shown = sampled(best.stack.planes, best.accepted.most, steps=best.accepted.steps)
    images = _pictures(best, shown, longest_side)
    remarks += _remarks(best.stack, len(shown), len(ranked)) + _uptake_remarks(best)
    if any(image.burned_in for image in images):
        remarks += (Remark("burned-in-text", "the header says that identifying text is drawn into a plane"),)
    context = study_context(study.study_instance_uid, list(headers))
    return context, ImageSet(
        study.study_instance_uid,
        images,
        tuple(unused),
        remarks=tuple(dict.fromkeys(remarks)),
        chest=False,
        volume=whole_volume(best.stack) if best.accepted.whole and not best.stack.missing else None,
    )


def whole_volume(stack: Stack) -> StudyVolume:
    """Every plane of ``stack`` decoded, as a value for a model, as soon as this process has room for it.

    Raises FailStudy as ``read_volume``, RetryLater("no-room").
    """
    first = stack.planes[0]
    size = 4 * len(stack.planes) * first.rows * first.columns  # of values that are no whole numbers
    VOLUMES.take(size)
    try:
        read = read_volume(stack)
        places = tuple((plane.ref, plane.frame) for plane in stack.planes)
        volume = StudyVolume(read.values, read.affine, places, modality_of(first.header.dataset), stack)
    except BaseException:
        VOLUMES.give(size)
        raise
    VOLUMES.give_with(volume, size)
    return volume


def sampled(planes: Sequence[Plane], most: int, *, steps: bool = False) -> tuple[Plane, ...]:
    """At most ``most`` of the planes, evenly chosen, or by ``steps`` (``by_steps``)."""
    choose = by_steps if steps else evenly
    return tuple(planes[place] for place in choose(len(planes), most))


def upright(plane: Plane, orientation: str) -> Turn:
    """How the plane is turned to be shown as radiologists see it; an oblique one is shown as it is stored."""
    if orientation not in _ACROSS:
        return Turn()
    row, column = np.array(plane.along_row), np.array(plane.down_column)
    across, down = np.array(_ACROSS[orientation]), np.array(_DOWN[orientation])
    transposed = abs(float(row @ across)) < abs(float(column @ across))
    right, below = (column, row) if transposed else (row, column)
    return Turn(transposed, mirrored=float(right @ across) < 0, upside_down=float(below @ down) < 0)


def _accepting(header: Header, accepts: Sequence[Accepts]) -> Accepts | None:
    found = accepting(header.dataset, accepts)
    return found if found is not None and found.kind is Kind.SLICES else None


def _planes(header: Header, accepts: Sequence[Accepts]) -> Sequence[Plane] | Reason:
    if _accepting(header, accepts) is None:
        return Reason(
            LeftOutReason.NOT_ACCEPTED,
            f"{in_words(header.dataset)}, which this model does not read beside the series",
        )
    return planes_of(header)


def _unusable(stack: Stack, accepted: Accepts) -> Reason | None:
    if (other := refuse_other_unit(stack)) is not None:
        return other
    if accepted.planes and stack.orientation not in accepted.planes:
        return Reason(
            LeftOutReason.NOT_ACCEPTED_PLANES,
            f"{stack.orientation} planes; this model is shown {' or '.join(accepted.planes)} ones",
        )
    if stack.missing and not accepted.gaps:
        return Reason(LeftOutReason.MISSING_PLANES, _gap(stack))
    if len(stack.planes) < accepted.least:
        return Reason(
            LeftOutReason.TOO_FEW_PLANES,
            f"{len(stack.planes)} planes; this model is shown {accepted.least} or more",
        )
    return None


def _gap(stack: Stack) -> str:
    gone = sum(count for _, count in stack.missing)
    return f"{gone} plane{'s' if gone > 1 else ''} inside the series {'are' if gone > 1 else 'is'} missing"


def _pictures(best: _Ranked, shown: Sequence[Plane], longest_side: int) -> tuple[StudyImage, ...]:
    """The planes decoded one after the other, those that the range was taken from not again (``MOST_KEPT``)."""
    kept: dict[int, _Decoded] = {}
    windows = _windows(best, shown, kept)
    places = {id(plane): place for place, plane in enumerate(best.stack.planes)}
    shown_as = _shown_as(best, windows)
    first = best.stack.planes[0]
    curved = first.unit == "HU" and not best.accepted.windows and is_sigmoid(first)
    images = []
    for plane in shown:
        values, padded = kept.pop(id(plane)) if id(plane) in kept else plane_values(plane, PLANE_LIMITS)
        channels = [in_range(values, low, high, curved=curved) for low, high in windows]
        if padded is not None:
            for channel in channels:
                channel[padded] = 0
        told = plane_caption(
            plane.header.dataset, best.stack.orientation, places[id(plane)], len(places), shown_as
        )
        images.append(_picture(plane, channels, best.stack.orientation, longest_side, told))
    return tuple(images)


def _shown_as(best: _Ranked, windows: Sequence[tuple[float, float]]) -> str:
    """The ranges that are shown, in words: in SUV where the values were led to it."""
    if isinstance(best.uptake, float):
        return range_shown([(low * best.uptake, high * best.uptake) for low, high in windows], "SUV")
    return range_shown(windows, best.stack.planes[0].unit if best.stack.planes[0].unit == "HU" else "")


def _picture(
    plane: Plane,
    channels: Sequence[NDArray[np.float32]],
    orientation: str,
    longest_side: int,
    caption: str,
) -> StudyImage:
    dataset, turn = plane.header.dataset, upright(plane, orientation)
    size = working_size(plane.rows, plane.columns, plane.spacing[0] / plane.spacing[1], longest_side)
    rows, columns = turn.sides((plane.rows, plane.columns))
    shown = [turn.of(resized(np.ascontiguousarray(channel, np.float32), size)) for channel in channels]
    return StudyImage(
        ref=plane.ref,
        frame=plane.frame,
        pixels=np.ascontiguousarray(shown[0] if len(shown) == 1 else np.stack(shown, axis=-1)),
        original_rows=rows,
        original_columns=columns,
        spacing_mm=turn.sides(plane.spacing),
        modality=modality_of(dataset),
        body_part=text(dataset, "BodyPartExamined").upper(),
        view="",
        photometric_interpretation=text(dataset, "PhotometricInterpretation").upper(),
        turn=turn,
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        caption=caption,
    )


def _windows(
    best: _Ranked, shown: Sequence[Plane], kept: dict[int, _Decoded]
) -> tuple[tuple[float, float], ...]:
    """The ranges of values that are shown: the model's own, the header's, or one that the values give.

    Planes of ``shown`` that are decoded for it go into ``kept``.
    """
    first = best.stack.planes[0]
    if first.unit == "HU":
        return best.accepted.windows or (header_window(first) or SOFT_TISSUE,)
    uptake = best.uptake
    if isinstance(uptake, float):
        low, high = best.accepted.suv or UPTAKE
        return ((low / uptake, high / uptake),)
    found, to_be_shown = [], set(map(id, shown))
    for plane in sampled(best.stack.planes, _SAMPLED_FOR_RANGE):
        values, padded = plane_values(plane, PLANE_LIMITS)
        if id(plane) in to_be_shown and (len(kept) + 1) * values.nbytes <= MOST_KEPT:
            kept[id(plane)] = values, padded
        thinned = values[::4, ::4] if padded is None else values[~padded][::16]
        found.append(thinned.ravel())
    low, high = (float(one) for one in np.percentile(np.concatenate(found), PERCENTILES))
    if low >= high:
        raise FailStudy("blank", "nearly every value of the series is the same")
    return ((low, high),)


def _remarks(stack: Stack, shown: int, stacks: int) -> tuple[Remark, ...]:
    told = [
        Remark(
            "planes-shown",
            f"{shown} of {len(stack.planes)} {stack.orientation} planes of one series were shown",
        )
    ]
    if stacks > 1:
        told.append(
            Remark(
                "series-shown", f"one of {stacks} series that could be shown; the others were not looked at"
            )
        )
    if is_map(stack):
        told.append(
            Remark("map-shown", "a map or a phase image was shown: there is no other series of planes")
        )
    if is_changed(stack):
        told.append(
            Remark(
                "material-changed",
                "a CT in which a material was computed away or changed was shown (Image Type)",
            )
        )
    if kev := virtual_kev(stack):
        told.append(Remark("virtual-energy", f"a virtual CT image of one energy, {kev:g} keV, was shown"))
    if stack.apart:
        names = " and ".join(name for name, _ in stack.apart)
        told.append(
            Remark(
                "part-of-series", f"of several images at each place one set was shown, told apart by {names}"
            )
        )
    if stack.missing:
        told.append(Remark("planes-missing", f"{_gap(stack)}; what lies there was not looked at"))
    if stack.sheared:
        told.append(
            Remark("tilted-planes", f"the planes are tilted by {stack.tilt:.0f} degrees and shown as stored")
        )
    return tuple(told)


def _uptake_remarks(best: _Ranked) -> tuple[Remark, ...]:
    if isinstance(best.uptake, Reason):
        return (
            Remark(
                LeftOutReason.NO_SUV,
                f"PET was shown between the least and the highest of its values; {best.uptake.message}",
            ),
        )
    if best.uptake is None:
        return ()
    low, high = best.accepted.suv or UPTAKE
    return (Remark("suv-shown", f"PET was shown as SUV by body weight from {low:g} to {high:g} g/mL"),)


def _nothing_to_use(
    reasons: Sequence[tuple[Plane, Reason]], unused: Sequence[LeftOut]
) -> SkipStudy | FailStudy:
    if reasons:
        counts: dict[Reason, int] = {}
        for _, reason in reasons:
            counts[reason] = counts.get(reason, 0) + 1
        nearest = max(counts, key=lambda one: counts[one])
        return SkipStudy(nearest.code, f"no series that this model can be shown: {nearest.message}")
    if unused:
        return SkipStudy(unused[0].code, f"no series that this model can be shown: {unused[0].message}")
    return FailStudy("no-instances", "the archive holds no instance of this study")
