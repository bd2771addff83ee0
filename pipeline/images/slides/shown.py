"""A slide as pictures for a model: all of it small, then tiles with tissue of the level nearest to what it wants."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.accepts import Accepts, Kind
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.admission import accepting
from pipeline.images.captions import caption
from pipeline.images.choose import ENOUGH, Reason, refuse_unpresentable
from pipeline.images.context import instance_ref, study_context
from pipeline.images.headers import Header, text
from pipeline.images.kinds import in_words
from pipeline.images.prepare import StudyHeaders, study_remarks
from pipeline.images.rejection import rejected
from pipeline.images.sampling import evenly
from pipeline.images.scale import working_size
from pipeline.images.slides.pyramid import Level, levels_of
from pipeline.images.slides.tile_reading import (
    Picture,
    level_for,
    thumbnail,
    tile_picture,
    tissue,
    with_range,
)
from pipeline.study import FetchedStudy, ImageSet, LeftOut, LeftOutReason, Remark, StudyImage
from pipeline.study_context import StudyContext

_OTHER_PATH = "another optical path of the slide is shown to the model"
LEAST_TISSUE = 0.25
"""The part of a tile that shows tissue, for one that is shown."""
USUAL_MICRONS = 1.0
"""Micrometres a pixel where the model names none: an objective of ten times."""


def has_slides(headers: Sequence[Header], accepts: Sequence[Accepts]) -> bool:
    """Whether any instance is of a slide that one of ``accepts`` names."""
    return any(_accepting(header, accepts) for header in headers)


def prepare_slides(
    study: FetchedStudy,
    read: StudyHeaders,
    accepts: Sequence[Accepts],
    *,
    longest_side: int = 1024,
) -> tuple[StudyContext, ImageSet]:
    """The study's context and pictures of its slides, which share the number that the model reads.

    Every instance of no use is in ``left_out`` with a reason, labels and overviews among them. Raises SkipStudy where
    no slide can be shown ("slide-label" where there is no level), FailStudy: "mixed-patients", "undecodable".
    """
    headers = read.headers
    remarks = study_remarks(study, read)
    unused = list(read.left_out)
    out = rejected(headers)
    slides: dict[tuple[str, str], list[Header]] = {}
    for header in headers:
        uid = text(header.dataset, "SOPInstanceUID")
        reason = Reason(LeftOutReason.REJECTED, out[uid]) if out.get(uid) else _unaccepted(header, accepts)
        if reason is None:
            key = text(header.dataset, "SeriesInstanceUID"), text(header.dataset, "PyramidUID")
            slides.setdefault(key, []).append(header)
        else:
            unused.append(LeftOut(uid, reason.code, reason.message))
    images: list[StudyImage] = []
    failures: list[FailStudy] = []
    for number, series in enumerate(slides.values()):
        accepted = _accepting(series[0], accepts)
        assert accepted is not None
        levels, left_out = levels_of(series)
        levels, others = one_path(levels)
        unused += [
            LeftOut(text(one.dataset, "SOPInstanceUID"), why.code, why.message) for one, why in left_out
        ]
        share = -(-(accepted.most - len(images)) // (len(slides) - number))
        if not levels or share < 1:
            unused += [_over_limit(header) for level in levels for header in level.parts]
            continue
        try:
            shown, told = _pictures(levels, accepted, share, longest_side)
            images += shown
            remarks += told
            unused += [LeftOut(*_named(header), _OTHER_PATH) for level in others for header in level.parts]
        except FailStudy as error:
            failures.append(error)
            parts = [header for level in levels for header in level.parts]
            unused += [
                LeftOut(text(one.dataset, "SOPInstanceUID"), error.code, error.message) for one in parts
            ]
    if not images and failures:
        raise FailStudy("undecodable", f"no slide can be used: {failures[0].message}")
    if not images:
        nearest = unused[0]
        raise SkipStudy(nearest.code, f"no slide that this model can be shown: {nearest.message}")
    context = study_context(study.study_instance_uid, list(headers))
    return context, ImageSet(
        study.study_instance_uid,
        tuple(images),
        tuple(unused),
        remarks=tuple(dict.fromkeys(remarks)),
        chest=False,
    )


def _accepting(header: Header, accepts: Sequence[Accepts]) -> Accepts | None:
    found = accepting(header.dataset, accepts)
    return found if found is not None and found.kind is Kind.SLIDE else None


def _unaccepted(header: Header, accepts: Sequence[Accepts]) -> Reason | None:
    if _accepting(header, accepts) is None:
        return Reason(
            LeftOutReason.NOT_ACCEPTED,
            f"{in_words(header.dataset)}, which this model does not read beside a slide",
        )
    return refuse_unpresentable(header.dataset)


def one_path(levels: Sequence[Level]) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """The levels of the optical path that is shown, and those of others: the path that the coarsest level has."""
    path = levels[-1].path if levels else ""
    return (
        tuple(level for level in levels if level.path == path),
        tuple(level for level in levels if level.path != path),
    )


def _named(header: Header) -> tuple[str, str]:
    return text(header.dataset, "SOPInstanceUID"), LeftOutReason.OTHER_SERIES


def _over_limit(header: Header) -> LeftOut:
    uid = text(header.dataset, "SOPInstanceUID")
    return LeftOut(uid, ENOUGH.code, ENOUGH.message)


def _pictures(
    levels: Sequence[Level], accepted: Accepts, most: int, longest_side: int
) -> tuple[list[StudyImage], tuple[Remark, ...]]:
    """The small picture and the tiles, at most ``most`` together, and what is said of them."""
    of = with_range(level_for(levels, longest_side))
    small = thumbnail(of, longest_side)
    level = nearest(levels, accepted.microns or USUAL_MICRONS)
    level = replace(level, grey=of.grey)
    images = [_small(of, small)]
    first = images[0]
    found = tiles_with_tissue(level, tissue(small, dark=level.grey is not None))
    # no second picture of the same frame of the same instance
    found = [one for one in found if (_ref(level, one), int(level.tiles[one, 1])) != (first.ref, first.frame)]
    chosen = [found[place] for place in evenly(len(found), most - 1)] if most > 1 else []
    images += [_tile(level, number, longest_side) for number in chosen]
    many = f"{len(chosen)} of {len(found)} tiles with tissue at {level.microns:.2f} micrometres a pixel"
    told = [Remark("slide-shown", f"of a slide all of it small and {many} were shown")]
    if level.grey is not None:
        low, high = level.grey
        told.append(
            Remark(
                "slide-grey", f"a slide in grey values was shown from {low:.4g} to {high:.4g}, not in colours"
            )
        )
    if level.paths > 1:
        told.append(Remark("slide-path", f"one of {level.paths} optical paths of a slide was shown"))
    return images, tuple(told)


def nearest(levels: Sequence[Level], microns: float) -> Level:
    """The level whose pixels lie apart most nearly as ``microns`` says, by their ratio."""
    return min(levels, key=lambda level: abs(np.log(level.microns / microns)))


def tiles_with_tissue(level: Level, shows: NDArray[np.bool_]) -> list[int]:
    """Numbers of the tiles of ``level`` of which a quarter shows tissue by a small picture of the slide, in order;
    where none is, those that show any.
    """
    sums = np.zeros((shows.shape[0] + 1, shows.shape[1] + 1), np.int64)
    sums[1:, 1:] = shows.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    down, across = shows.shape[0] / level.rows, shows.shape[1] / level.columns
    row, column = level.tiles[:, 2], level.tiles[:, 3]
    top, left = (row * down).astype(int), (column * across).astype(int)
    bottom = np.minimum(np.ceil((row + level.declared.rows) * down).astype(int), shows.shape[0])
    right = np.minimum(np.ceil((column + level.declared.columns) * across).astype(int), shows.shape[1])
    area = np.maximum((bottom - top) * (right - left), 1)
    part = (sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]) / area
    enough = np.flatnonzero(part >= LEAST_TISSUE)
    return [int(one) for one in (enough if len(enough) else np.flatnonzero(part > 0))]


def _ref(level: Level, number: int) -> object:
    return instance_ref(level.parts[int(level.tiles[number, 0])].dataset)


def _small(level: Level, small: Picture) -> StudyImage:
    """The whole slide: made of many frames, it has no size that a place could be told in, unless it is one frame."""
    single = len(level.tiles) == 1
    spacing = level.spacing_mm if single else None
    sides = (level.rows, level.columns) if single else (0, 0)
    part, frame = int(level.tiles[0, 0]), int(level.tiles[0, 1])
    return _image(level, part, frame, small, sides, spacing, "as a whole")


def _tile(level: Level, number: int, longest_side: int) -> StudyImage:
    picture = tile_picture(level, number)
    rows, columns = picture.shape[:2]
    size = working_size(rows, columns, level.spacing_mm[0] / level.spacing_mm[1], longest_side)
    shown = np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BOX))
    part, frame = int(level.tiles[number, 0]), int(level.tiles[number, 1])
    where = f"tile {number + 1} of {len(level.tiles)}, {level.microns:.2f} micrometres a pixel"
    return _image(level, part, frame, shown, (rows, columns), level.spacing_mm, where)


def _image(
    level: Level,
    part: int,
    frame: int,
    picture: Picture,
    sides: tuple[int, int],
    spacing: tuple[float, float] | None,
    where: str,
) -> StudyImage:
    dataset = level.parts[part].dataset
    return StudyImage(
        ref=instance_ref(dataset),
        frame=frame,
        pixels=picture.astype(np.float32) / np.float32(255),
        original_rows=sides[0],
        original_columns=sides[1],
        spacing_mm=spacing,
        modality="SM",
        body_part=text(dataset, "BodyPartExamined").upper(),
        view="",
        photometric_interpretation=level.declared.photometric,
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        caption=f"{caption(dataset, 0, 1)}, {where}",
    )
