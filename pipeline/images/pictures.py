"""Single pictures for a model that reads more than films of the chest: films of any part, mammograms, colour stills.

Colours are shown as sRGB, grey pictures as films are. Of a clip, a volume of an eye or another instance of several
frames some are shown, by the model's own rule, and only those are read; where a study has several such instances, they
share the number of pictures that the model reads. Of a video frames are chosen by the time that its stream says.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.accepts import Accepts, Kind, listed
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.admission import accepting
from pipeline.images.captions import caption
from pipeline.images.choose import ENOUGH, Reason, refuse_unpresentable
from pipeline.images.colour import is_colour, srgb
from pipeline.images.context import instance_ref, study_context
from pipeline.images.decode import Declared, declared_pixels, stored_values
from pipeline.images.frame_sets import FrameSets, chosen_frames, frame_sets
from pipeline.images.frame_times import frame_times
from pipeline.images.functional_groups import as_frames
from pipeline.images.grey import display
from pipeline.images.headers import Elements, Header, integer, items, text
from pipeline.images.kinds import in_words, kind_of
from pipeline.images.limits import ImageLimits
from pipeline.images.orientation import presented
from pipeline.images.prepare import StudyHeaders, study_remarks
from pipeline.images.rejection import rejected
from pipeline.images.sampling import by_rate, by_time, evenly
from pipeline.images.scale import pixel_aspect, resized, spacing_mm, working_size
from pipeline.images.video import is_video, video_frames
from pipeline.study import FetchedStudy, ImageSet, LeftOut, LeftOutReason, Remark, StudyImage, Turn
from pipeline.study_context import StudyContext

FRAMES = frozenset({Kind.CINE, Kind.OCT, Kind.NUCLEAR, Kind.TOMOSYNTHESIS, Kind.VIDEO})
"""Kinds of which an instance has several frames, of which some are shown."""
PICTURES = FRAMES | {Kind.FILM, Kind.MAMMOGRAM, Kind.PHOTOGRAPH, Kind.OPHTHALMIC, Kind.ULTRASOUND}
"""Kinds of which an instance is a picture by itself, or some of its frames are."""
STILL_LIMITS = ImageLimits(min_side=64, max_pixels=1 << 50)
"""Frames are read one by one: how many there are bounds nothing."""
MOST_AT_ONCE = 1 << 24
"""Pixels of frames that are shown in one range, held together."""
_EN_FACE = "1.2.840.10008.5.1.4.1.1.77.1.5.7"
_TO_BE_MENDED = frozenset({"no-video-decoder", "decoder-died", "decoder-slow"})
"""What an installation or another version may mend; every other reason lies in the file."""
_EMPTY = frozenset({"constant", "blank"})
"""Why a frame shows nothing where others of its instance may."""
_UPRIGHT = frozenset({Kind.FILM, Kind.MAMMOGRAM})
"""Kinds whose Patient Orientation says how a picture lies in the patient."""


def has_pictures(headers: Sequence[Header], accepts: Sequence[Accepts]) -> bool:
    """Whether any instance is of a kind of picture that one of ``accepts`` names."""
    return any(_accepting(header, accepts) for header in headers)


def prepare_pictures(
    study: FetchedStudy,
    read: StudyHeaders,
    accepts: Sequence[Accepts],
    *,
    longest_side: int = 1024,
) -> tuple[StudyContext, ImageSet]:
    """The study's context and its pictures for a model that ``accepts`` their kinds, as numbered.

    Every other instance is in ``left_out`` with a reason. Raises SkipStudy where none is a picture for this model,
    FailStudy: "mixed-patients", "undecodable" where one may be and none can be decoded, or why no decoder could.
    """
    headers = read.headers
    remarks = study_remarks(study, read)
    unused = list(read.left_out)
    taken: list[tuple[Header, Accepts]] = []
    out = rejected(headers)
    for header in sorted(headers, key=_as_numbered):
        uid = text(header.dataset, "SOPInstanceUID")
        verdict = Reason(LeftOutReason.REJECTED, out[uid]) if out.get(uid) else _verdict(header, accepts)
        if isinstance(verdict, Accepts):
            taken.append((header, verdict))
        else:
            unused.append(LeftOut(uid, verdict.code, verdict.message))
    images, told, failures = _all_shown(taken, unused, longest_side)
    if not images and failures:
        codes = {failure.code for failure in failures}
        code = codes.pop() if len(codes) == 1 and codes <= _TO_BE_MENDED else "undecodable"
        raise FailStudy(code, f"no picture can be used: {failures[0].message}")
    if not images:
        nearest = unused[0]
        raise SkipStudy(nearest.code, f"nothing that this model reads: {nearest.message}")
    remarks += told
    if any(image.burned_in for image in images):
        remarks += (
            Remark("burned-in-text", "the header says that identifying text is drawn into a picture"),
        )
    context = study_context(study.study_instance_uid, list(headers))
    return context, ImageSet(
        study.study_instance_uid,
        tuple(images),
        tuple(unused),
        remarks=tuple(dict.fromkeys(remarks)),
        chest=False,
    )


def _as_numbered(header: Header) -> tuple[int, int, str]:
    dataset = header.dataset
    return (integer(dataset, "SeriesNumber") or 0, integer(dataset, "InstanceNumber") or 0,
            text(dataset, "SOPInstanceUID"))  # fmt: skip


def _accepting(header: Header, accepts: Sequence[Accepts]) -> Accepts | None:
    found = accepting(header.dataset, accepts)
    return found if found is not None and found.kind in PICTURES else None


def _verdict(header: Header, accepts: Sequence[Accepts]) -> Accepts | Reason:
    """The declaration by which the instance is shown, or why it is not."""
    accepted = _accepting(header, accepts)
    if accepted is None:
        return Reason(
            LeftOutReason.NOT_ACCEPTED, f"{in_words(header.dataset)}, which this model does not read"
        )
    return refuse_unpresentable(header.dataset) or accepted


def _all_shown(
    taken: Sequence[tuple[Header, Accepts]], unused: list[LeftOut], longest_side: int
) -> tuple[list[StudyImage], tuple[Remark, ...], list[FailStudy]]:
    """The pictures of what is ``taken``, remarks on them, and why some cannot be decoded.

    Each instance has an even share of the room that is left for its kind and for the study; those for which there is
    none, and those that cannot be decoded, join ``unused``.
    """
    images: list[StudyImage] = []
    told: list[Remark] = []
    failures: list[FailStudy] = []
    used: Counter[Kind] = Counter()
    waiting = Counter(accepted.kind for _, accepted in taken)
    most = max((accepted.most for _, accepted in taken), default=0)
    for header, accepted in taken:
        room = min(most - len(images), accepted.most - used[accepted.kind])
        share = -(-room // waiting[accepted.kind])
        waiting[accepted.kind] -= 1
        reason = ENOUGH
        if share > 0:
            try:
                shown, remark = _shown(header, accepted, share, longest_side)
                images += shown
                used[accepted.kind] += len(shown)
                told += remark
                continue
            except FailStudy as error:
                failures.append(error)
                reason = Reason(error.code, error.message)
        unused.append(LeftOut(text(header.dataset, "SOPInstanceUID"), reason.code, reason.message))
    return images, tuple(told), failures


def _shown(
    header: Header, accepted: Accepts, room: int, longest_side: int
) -> tuple[list[StudyImage], list[Remark]]:
    """The frames of one instance that are shown, at most ``room``, and a remark where they are not all."""
    if is_video(header):
        return _of_video(header, accepted, room, longest_side)
    declared = declared_pixels(header, STILL_LIMITS)
    times = frame_times(header.dataset, declared.frames) if accepted.rate else None
    sets = frame_sets(header.dataset, declared.frames)
    spread = accepted.rate and accepted.least > 1
    most = room if times or not spread else min(accepted.least, room)
    chosen, shown, of = chosen_frames(sets, declared.frames, most)
    if times:
        chosen, of = _timed(times, accepted, room), 0
    pictures, empty = _of_frames(header, declared, chosen, longest_side, sets)
    if times:
        pictures = [replace(one, seconds=times[one.frame]) for one in pictures]
    what, told = in_words(header.dataset), []
    if shown < of:
        told.append(
            Remark(
                "part-of-series",
                f"of {of} sets of frames of {what} {shown} were shown, told apart by {listed(sets.apart)}",
            )
        )
    if sets.hidden:
        told.append(
            Remark(
                "not-tissue",
                f"{len(sets.hidden)} frames of {what} show flow or elasticity: they were not shown",
            )
        )
    if empty:
        told.append(Remark("frames-empty", f"{empty} frames of {what} that were chosen show nothing"))
    if len(pictures) < declared.frames:
        told.append(
            Remark("frames-shown", f"{len(pictures)} of {declared.frames} frames of {what} were shown")
        )
    if items(header.dataset, "MaskSubtractionSequence"):  # PS3.3 C.7.6.10
        told.append(
            Remark("not-subtracted", f"{what} is shown without the subtraction that its header asks for")
        )
    return pictures, told


def _timed(times: Sequence[float], accepted: Accepts, room: int) -> tuple[int, ...]:
    """Which of the frames at ``times`` (seconds) are shown, at most ``room``."""
    if accepted.least > 1:
        return by_rate(times, accepted.rate, min(accepted.least, room), room)
    return by_time(times, accepted.rate, room)


def _of_video(
    header: Header, accepted: Accepts, room: int, longest_side: int
) -> tuple[list[StudyImage], list[Remark]]:
    """The same of a video; also a remark where it has fewer frames than its header declares, or some are damaged."""
    aspect, asked = pixel_aspect(header.dataset), 0
    times: Sequence[float] = ()

    def choose(seconds: Sequence[float]) -> Sequence[int]:
        nonlocal asked, times
        chosen = _timed(seconds, accepted, room) if accepted.rate else evenly(len(seconds), room)
        asked, times = len(chosen), seconds
        return chosen

    def small(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return _resized(frame, working_size(frame.shape[0], frame.shape[1], aspect, longest_side))

    video = video_frames(header, choose, small)
    images = [
        _image(header, (number, video.held), pixels, sides, Turn(), "YBR_PARTIAL_420")
        for number, pixels, sides in video.pictures
    ]
    if accepted.rate:
        images = [replace(one, seconds=times[one.frame] - times[0]) for one in images]
    what = in_words(header.dataset)
    told = [Remark("frames-shown", f"{len(images)} of {video.held} frames of {what} were shown")]
    declared = integer(header.dataset, "NumberOfFrames") or 0
    if video.held < declared or len(images) < asked:
        gone = (
            f"{video.held} of {declared} frames that its header declares"
            if video.held < declared
            else "its frames"
        )
        damaged = f"; {asked - len(images)} that were chosen are damaged" if len(images) < asked else ""
        told.append(Remark("frames-missing", f"{what} is cut short or damaged: it holds {gone}{damaged}"))
    return images, told


def _of_frames(
    header: Header, declared: Declared, chosen: Sequence[int], longest_side: int, sets: FrameSets
) -> tuple[list[StudyImage], int]:
    """The frames ``chosen``, and how many of them show nothing: the ends of a tomogram, a clip that begins black.

    Raises FailStudy as ``_picture``, and where no frame shows anything.
    """
    pictures: list[StudyImage] = []
    empty: list[FailStudy] = []
    counts = _counts(header, declared, chosen, sets)
    for frame, seen in zip(chosen, as_frames(header.dataset, chosen), strict=True):
        try:
            one = _picture(replace(header, dataset=seen), declared, frame, longest_side, counts.get(frame))
            pictures.append(replace(one, caption=one.caption + sets.words(frame)))
        except FailStudy as error:
            if error.code not in _EMPTY:
                raise
            empty.append(error)
    if not pictures:
        raise empty[0]
    return pictures, len(empty)


def _counts(
    header: Header, declared: Declared, chosen: Sequence[int], sets: FrameSets
) -> dict[int, npt.NDArray[np.float32]]:
    """Frames of nuclear medicine as they are displayed, those of one set in one range: what they count is compared.

    Empty for other kinds, and for more than is held at once. A frame of one value has none where others have more.
    """
    size = declared.rows * declared.columns
    if (
        kind_of(header.dataset) is not Kind.NUCLEAR
        or is_colour(declared)
        or size * len(chosen) > MOST_AT_ONCE
    ):
        return {}
    found: dict[int, npt.NDArray[np.float32]] = {}
    for one in dict.fromkeys(map(sets.set_of, chosen)):
        frames = [frame for frame in chosen if sets.set_of(frame) == one]
        stored = [stored_values(header, declared, frame, STILL_LIMITS) for frame in frames]
        if all(np.ptp(values) == 0 for values in stored):
            continue
        shown = display(np.concatenate(stored), header.dataset, little=header.little, least_levels=2)
        each = zip(frames, stored, np.split(shown, len(frames)), strict=True)
        found |= {frame: grey for frame, values, grey in each if np.ptp(values)}
    return found


def _picture(
    header: Header,
    declared: Declared,
    frame: int,
    longest_side: int,
    grey: npt.NDArray[np.float32] | None = None,
) -> StudyImage:
    """One frame, decoded where it is not given in ``grey``, brought to working size.

    Raises FailStudy with the reason.
    """
    dataset = header.dataset
    aspect = 1.0 if _is_section_of_the_eye(dataset) else pixel_aspect(dataset)
    size = working_size(declared.rows, declared.columns, aspect, longest_side)
    if is_colour(declared):
        turn, pixels = Turn(), _colours(header, declared, frame, size)
    else:
        if grey is None:
            grey = display(
                stored_values(header, declared, frame, STILL_LIMITS), dataset, little=header.little
            )
        turn = presented(dataset, (), lateral=False).turn if kind_of(dataset) in _UPRIGHT else Turn()
        pixels = np.ascontiguousarray(turn.of(resized(grey, size)))
    sides = declared.rows, declared.columns
    return _image(header, (frame, declared.frames), pixels, sides, turn, declared.photometric)


def _is_section_of_the_eye(dataset: Elements) -> bool:
    """An OCT whose depth is drawn larger than its width, as its readers know it; one en face is as wide as it says."""
    return kind_of(dataset) is Kind.OCT and text(dataset, "SOPClassUID") != _EN_FACE


def _image(
    header: Header,
    numbered: tuple[int, int],
    pixels: npt.NDArray[np.float32],
    sides: tuple[int, int],
    turn: Turn,
    photometric: str,
) -> StudyImage:
    """``numbered`` is the frame (from 0) and how many there are, ``sides`` are rows and columns as stored."""
    dataset = header.dataset
    rows, columns = turn.sides(sides)
    spacing = spacing_mm(dataset)
    return StudyImage(
        ref=instance_ref(dataset),
        frame=numbered[0],
        pixels=pixels,
        original_rows=rows,
        original_columns=columns,
        spacing_mm=spacing and turn.sides(spacing),
        modality=text(dataset, "Modality"),
        body_part=text(dataset, "BodyPartExamined").upper(),
        view="",
        photometric_interpretation=photometric,
        turn=turn,
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        caption=caption(dataset, *numbered),
    )


def _colours(
    header: Header, declared: Declared, frame: int, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """[rows, columns, 3] in 0..1; full size is held in bytes alone. A picture without colours becomes grey."""
    return _resized(srgb(header, declared, frame, STILL_LIMITS), size)


def _resized(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    picture = Image.fromarray(frame)
    small = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX, reducing_gap=3.0))
    shown = small.astype(np.float32) / np.float32(255)
    plain = np.ptp(small, axis=-1).max() == 0
    return np.ascontiguousarray(shown[..., 0]) if plain else shown
