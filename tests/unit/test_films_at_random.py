"""Studies drawn at random, how their films lie and what is filed beside them, against a plain reading of the standard.

Patient Orientation (PS3.3 C.7.6.1.1.1), presentation states (C.10.6, C.11.11), shutters (C.7.6.11), rejection notes
(IHE RAD-66, PS3.16 CID 7011) and dual energy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import SkipStudy
from tests.synthetic import chest_pixels, radiograph_header
from tests.unit.test_study_films import film, note, prepared, state

ROWS, COLUMNS = 144, 130
UPRIGHT = {seed: chest_pixels(ROWS, COLUMNS, seed=seed) for seed in range(3)}
DIRECTIONS = [("L", "F"), ("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("F", "R"), ("H", "L"), ("H", "R")]
REJECTIONS = ["113001", "113037", "113038", "113039"]
PARTS = ["CHEST PA BONE", "Soft Tissue", "DE soft tissue", "Knochenbild", "Weichteilbild"]
FIELDS = [
    "SeriesDescription", "AcquisitionDeviceProcessingDescription", "DerivationDescription", "ImageComments",
    "AcquisitionDeviceProcessingCode", "AcquisitionProtocolName",
]  # fmt: skip


@dataclass(frozen=True)
class Lying:
    """How a film is stored, and who says so."""

    told_by: str
    directions: tuple[str, str] = ("L", "F")
    suffix: bool = False
    rotation: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Exposure:
    """A film, its dual-energy parts, what rejects it and whether that note was withdrawn, where it is shut."""

    lying: Lying
    parts: tuple[tuple[str, str], ...] = ()
    rejected: str = ""
    withdrawn: bool = False
    state_rejected: bool = False
    shutter: tuple[int, int, int, int] | None = None
    shutter_in_state: bool = False

    @property
    def is_used(self) -> bool:
        return not self.rejected or self.withdrawn


lyings = st.one_of(
    st.builds(Lying, st.just("header"), st.sampled_from(DIRECTIONS), st.booleans()),
    st.builds(
        Lying,
        st.just("state"),
        rotation=st.sampled_from([0, 90, 180, 270]),
        flip=st.booleans(),
    ),
    st.just(Lying("nobody")),
)
exposures = st.builds(
    Exposure,
    lyings,
    st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(PARTS)), max_size=2).map(tuple),
    st.sampled_from(["", "", *REJECTIONS]),
    st.booleans(),
    st.booleans(),
    st.none() | st.tuples(st.integers(1, 30), st.integers(90, 130), st.integers(1, 30), st.integers(90, 130)),
    st.booleans(),
)


def stored(upright: np.ndarray, lying: Lying, *, state_counts: bool) -> np.ndarray:
    """The upright film as the one who filed it stored it, pixel by pixel."""
    if lying.told_by == "state" and state_counts:
        # shown: what is stored, turned clockwise by the rotation, then its columns about where it is flipped
        before = upright[:, ::-1] if lying.flip else upright
        return np.ascontiguousarray(np.rot90(before, lying.rotation // 90))
    if lying.told_by != "header":
        return upright
    along, down = lying.directions
    rows, columns = upright.shape
    shape = (rows, columns) if along in "LR" else (columns, rows)
    turned = np.empty(shape, upright.dtype)
    for r in range(shape[0]):
        for c in range(shape[1]):
            place = {}
            for direction, step in ((along, c), (down, r)):
                size = columns if direction in "LR" else rows
                place["x" if direction in "LR" else "y"] = step if direction in "LF" else size - 1 - step
            turned[r, c] = upright[place["y"], place["x"]]
    return turned


def shut(shape: tuple[int, int], edges: tuple[int, int, int, int]) -> np.ndarray:
    """Where a rectangular shutter shows the stored film; rows and columns count from 1."""
    upper, lower, left, right = edges
    rows, columns = np.arange(1, shape[0] + 1), np.arange(1, shape[1] + 1)
    return ((rows >= upper) & (rows <= lower))[:, None] & ((columns >= left) & (columns <= right))[None, :]


def write_exposure(folder: Path, number: int, exposure: Exposure) -> tuple[list[Path], np.ndarray]:
    """The files of an exposure, and where it is to be shown, as it is to be shown."""
    lying = exposure.lying
    has_state = lying.told_by == "state" or (exposure.shutter is not None and exposure.shutter_in_state)
    state_counts = has_state and not exposure.state_rejected
    pixels = stored(UPRIGHT[number], lying, state_counts=state_counts)
    said: dict[str, Any] = {"PatientOrientation": None}
    if lying.told_by == "header":
        said["PatientOrientation"] = [
            one + ("P" if lying.suffix and one in "LR" else "") for one in lying.directions
        ]
    edges: dict[str, Any] = {}
    mask = np.ones((ROWS, COLUMNS), bool)
    if exposure.shutter is not None:
        keywords = ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
        edges = {f"Shutter{one}Edge": edge for one, edge in zip(keywords, exposure.shutter, strict=True)}
        edges["ShutterShape"] = "RECTANGULAR"
        if not exposure.shutter_in_state or state_counts:
            shown = shut(pixels.shape, exposure.shutter)
            places = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
            order = stored(places, lying, state_counts=state_counts)
            mask.reshape(-1)[order.reshape(-1)] = shown.reshape(-1)
    base = 100 * number
    timed = {"AcquisitionTime": f"1{number}1500", "AcquisitionDateTime": None}
    own = {} if exposure.shutter_in_state else edges
    first = film(folder / f"{base}", base + 1, pixels=pixels, **said, **timed, **own)
    paths = [first]
    for at, (field, words) in enumerate(exposure.parts, 2):
        part = film(
            folder / f"{base + at}",
            base + at,
            pixels=pixels[:, ::-1].copy(),
            **said,
            **timed,
            **cast(Any, {field: words}),
        )
        paths.append(part)
    if has_state:
        turned = (
            {"ImageRotation": lying.rotation, "ImageHorizontalFlip": "Y" if lying.flip else "N"}
            if lying.told_by == "state"
            else {}
        )
        about = edges if exposure.shutter_in_state else {}
        paths.append(state(folder / f"{base + 10}", base + 10, first, **turned, **about))
        if exposure.state_rejected:
            paths.append(note(folder / f"{base + 11}", base + 11, paths[-1], "113001"))
    if exposure.rejected:
        paths.append(note(folder / f"{base + 20}", base + 20, first, exposure.rejected))
        if exposure.withdrawn:
            paths.append(note(folder / f"{base + 21}", base + 21, paths[-1], "113001"))
    return paths, mask


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=st.lists(exposures, min_size=1, max_size=3))
@example(drawn=[Exposure(Lying("nobody"), (("ImageComments", "CHEST PA BONE"),), "113001")])
@example(drawn=[Exposure(Lying("state", rotation=90, flip=True), state_rejected=True)])
def test_films_are_chosen_and_shown_as_the_standard_says(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Exposure]
) -> None:
    folder = tmp_path_factory.mktemp("study")
    paths: list[Path] = []
    masks = {}
    for number, exposure in enumerate(drawn):
        files, masks[radiograph_header(instance=100 * number + 1).sop_instance_uid] = write_exposure(
            folder, number, exposure
        )
        paths += files
    used = {
        radiograph_header(instance=100 * number + 1).sop_instance_uid: number
        for number, exposure in enumerate(drawn)
        if exposure.is_used
    }
    if not used:
        with pytest.raises(SkipStudy):
            prepared(folder, *paths)
        return
    _, images = prepared(folder, *paths)
    assert {image.ref.sop_instance_uid for image in images.images} == set(used)
    for image in images.images:
        number = used[image.ref.sop_instance_uid]
        plain = film(folder / "plain", 1, pixels=UPRIGHT[number], PatientOrientation=["L", "F"])
        wanted = prepared(folder, plain)[1].images[0].pixels
        np.testing.assert_array_equal(
            image.pixels, np.where(masks[image.ref.sop_instance_uid], wanted, np.float32(0))
        )
    turned_by_a_state = any(
        one.is_used
        and one.lying.told_by == "state"
        and (one.lying.rotation or one.lying.flip)
        and not one.state_rejected
        for one in drawn
    )
    assert ("orientation" in {remark.code for remark in images.remarks}) == turned_by_a_state
    left_out = {one.sop_instance_uid: one.code for one in images.left_out}
    for number, exposure in enumerate(drawn):
        for at in range(len(exposure.parts)):
            uid = radiograph_header(instance=100 * number + at + 2).sop_instance_uid
            assert left_out[uid] == "processed-image"
        if not exposure.is_used:
            assert left_out[radiograph_header(instance=100 * number + 1).sop_instance_uid] == "rejected"


def test_the_parts_of_an_exposure_without_its_film_are_no_films(tmp_path: Path) -> None:
    """Bone and soft tissue alone: the standard rendering was never sent."""
    paths = [
        film(tmp_path / str(n), n, SeriesDescription=words)
        for n, words in enumerate(("CHEST PA BONE", "CHEST PA SOFT TISSUE"), 1)
    ]
    with pytest.raises(SkipStudy) as caught:
        prepared(tmp_path, *paths)
    assert caught.value.code == "processed-image"
