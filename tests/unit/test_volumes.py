"""Stacks by geometry: every voxel of a volume has the value of its place, or the series is refused by name.

The truth is the position equation of PS3.3 C.7.6.2.1.1, by which ``tests.ct_series`` writes each voxel's value.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.errors import FailStudy
from pipeline.images.choose import Reason
from pipeline.images.headers import read_header
from pipeline.images.volumes import Plane, Stack, Volume, planes_of, read_volume, stacks_of
from pipeline.images.volumes.voxels import LOWEST_HU, PLANE_LIMITS
from tests.compressed_series import FORMS, Form, rewrite
from tests.ct_series import Slice, enhanced, stack, value_at, write_series


def planes(paths: list[Path]) -> tuple[list[Plane], list[str]]:
    """The planes of all files, and the reasons of those that have none."""
    found: list[Plane] = []
    reasons: list[str] = []
    for path in paths:
        one = planes_of(read_header(path, PLANE_LIMITS))
        if isinstance(one, Reason):
            reasons.append(one.code)
        else:
            found += one
    return found, reasons


def stacks(paths: list[Path]) -> tuple[tuple[Stack, ...], list[str]]:
    found, reasons = planes(paths)
    made, astray = stacks_of(found)
    return made, reasons + [reason.code for _, reason in astray]


def true_to_place(volume: Volume, shift: float = 0, within: float = 1) -> bool:
    """Whether every voxel has the value of the place that the affine gives it, ``within`` what is stored."""
    index = np.indices(volume.values.shape).reshape(3, -1)
    places = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    expected = value_at(*places).reshape(volume.values.shape) + shift
    return bool(np.abs(volume.values - expected).max() <= within)


RIGHT = {
    "clean": stack(),
    "numbers-out-of-order": [
        one.with_extra(InstanceNumber=number)
        for one, number in zip(stack(), (4, 9, 1, 7, 3, 10, 2, 8, 6, 5), strict=True)
    ],
    "descending": stack(step=(0, 0, -2.0), origin=(-20, -30, -30)),
    "sagittal": stack(step=(2.0, 0, 0), origin=(-20, -30, 30), cosines=(0, 1, 0, 0, 0, -1)),
    "coronal": stack(step=(0, 2.0, 0), cosines=(1, 0, 0, 0, 0, -1)),
    "oblique": stack(
        step=(0, -2 * math.sin(0.3), 2 * math.cos(0.3)), cosines=(1, 0, 0, 0, math.cos(0.3), math.sin(0.3))
    ),
    "tilted-gantry": stack(cosines=(1, 0, 0, 0, math.cos(0.26), -math.sin(0.26))),
    "wrong-thickness": [
        one.with_extra(SliceThickness=5, SpacingBetweenSlices=1, SliceLocation=0) for one in stack()
    ],
    "cosines-of-four-digits": [
        replace(one, cosines=(1, 0, 0, 0, 1, 1e-4 * (place % 2))) for place, one in enumerate(stack())
    ],
    "acquisition-number-varies": [
        one.with_extra(AcquisitionNumber=place) for place, one in enumerate(stack())
    ],
    "rescale-by-slice": [
        replace(one, slope=0.5 + place / 4, intercept=0) for place, one in enumerate(stack())
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_voxel_has_the_value_of_its_place(name: str, tmp_path: Path) -> None:
    made, reasons = stacks(write_series(tmp_path, RIGHT[name]))
    assert (len(made), reasons) == (1, [])
    volume = read_volume(made[0])
    assert len(volume.values) == 10
    assert volume.values.dtype == (np.float32 if name == "rescale-by-slice" else np.int16)
    assert true_to_place(volume, within=max(1, *(one.slope / 2 + 0.5 for one in RIGHT[name]))), name
    assert made[0].sheared == (name == "tilted-gantry")
    assert volume.affine[2, 0] >= 0, "feet to head, or along another axis"


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_planes_are_decoded_to_their_place_in_every_form(form: Form, tmp_path: Path) -> None:
    paths = write_series(tmp_path, stack(3))
    rewrite(paths, form)
    (made,), _ = stacks(paths)
    assert true_to_place(read_volume(made), within=0)


def test_names_and_order_of_files_play_no_part(tmp_path: Path) -> None:
    paths = write_series(tmp_path, stack(), name=lambda index: f"{(index * 7) % 10}")
    (made,), _ = stacks(sorted(paths))
    assert [plane.position[2] for plane in made.planes] == sorted(one.position[2] for one in stack())


def test_two_echoes_are_two_volumes(tmp_path: Path) -> None:
    both = [
        replace(one, shift=3000 * echo).with_extra(EchoNumbers=echo + 1, InstanceNumber=2 * place + echo)
        for place, one in enumerate(stack())
        for echo in (0, 1)
    ]
    made, reasons = stacks(write_series(tmp_path, both, modality="MR"))
    assert (len(made), reasons) == (2, [])
    assert [one.apart for one in made] == [(("Echo", "1"),), (("Echo", "2"),)]
    assert [true_to_place(read_volume(one), shift) for one, shift in zip(made, (0, 3000), strict=True)] == [
        True,
        True,
    ]


def test_three_times_with_two_echoes_each_are_six_volumes(tmp_path: Path) -> None:
    every = [
        replace(one, shift=1000 * (2 * moment + echo)).with_extra(
            EchoTime=10 + echo, TemporalPositionIdentifier=moment + 1
        )
        for one in stack(6)
        for moment in range(3)
        for echo in range(2)
    ]
    made, reasons = stacks(write_series(tmp_path, every, modality="MR"))
    assert ([len(one.planes) for one in made], reasons) == ([6] * 6, [])
    shifts = [1000 * (2 * (int(dict(one.apart)["Temporal Position"]) - 1) + float(dict(one.apart)["Echo"]) - 10)
              for one in made]  # fmt: skip
    assert all(true_to_place(read_volume(one), shift) for one, shift in zip(made, shifts, strict=True))


def block(group: int, creator: str, element: int, kind: str, value: Any) -> Callable[[Dataset], None]:
    def add(dataset: Dataset) -> None:
        dataset.private_block(group, creator, create=True).add_new(element, kind, value)

    return add


def attribute(**values: Any) -> Callable[[Dataset], None]:
    def add(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return add


APART = {
    "Image Type": [attribute(ImageType=["DERIVED", "PRIMARY", "M", "NORM", "DIXON", one]) for one in ("FAT", "WATER")],
    "Flip Angle": [attribute(FlipAngle=one) for one in (3, 15)],
    "Repetition Time": [attribute(RepetitionTime=one) for one in (500, 3000)],
    "cardiac phase": [attribute(NominalPercentageOfCardiacPhase=one) for one in (40, 75)],
    "Acquisition Time": [attribute(AcquisitionDateTime=f"2031050607080{one}") for one in (1, 9)],
    "kernel": [attribute(FilterType=one) for one in ("BODY", "HEAD")],
    "diffusion": [block(0x19, "SIEMENS MR HEADER", 0x0C, "IS", one) for one in (0, 1000)],
    "diffusion ": [block(0x43, "GEMS_PARM_01", 0x39, "IS", [one, 8, 0, 0]) for one in (0, 1000000800)],
    "diffusion  ": [block(0x2001, "Philips Imaging DD 001", 0x03, "FL", one) for one in (0.0, 1000.0)],
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_two_images_at_each_place_are_told_apart(name: str, tmp_path: Path) -> None:
    both = [replace(one, shift=3000 * which) for which in (0, 1) for one in stack(6)]
    paths = write_series(tmp_path, both, modality="MR")
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        APART[name][number // 6](dataset)
        dataset.save_as(path)
    made, reasons = stacks(paths)
    assert ([len(one.planes) for one in made], reasons) == ([6, 6], [])
    assert [[key for key, _ in one.apart] for one in made] == [[name.strip()]] * 2
    shifts = sorted(int(read_volume(one).values[0, 0, 0] > 2000) for one in made)
    assert shifts == [0, 1], "each has the values of one set alone"


def item(**values: Any) -> Dataset:
    found = Dataset()
    attribute(**values)(found)
    return found


IN_GROUPS: dict[str, Callable[[int], dict[str, Any]]] = {
    "part of the complex image": lambda one: {
        "MRImageFrameTypeSequence": [
            item(FrameType=["ORIGINAL", "PRIMARY", "M"], ComplexImageComponent=("MAGNITUDE", "PHASE")[one])
        ]
    },
    "cardiac phase": lambda one: {
        "CardiacSynchronizationSequence": [item(NominalPercentageOfCardiacPhase=50.0 * one)]
    },
    "respiratory phase": lambda one: {
        "RespiratorySynchronizationSequence": [item(NominalPercentageOfRespiratoryPhase=50.0 * one)]
    },
    "time offset": lambda one: {"TemporalPositionSequence": [item(TemporalPositionTimeOffset=5.0 * one)]},
    "stack": lambda one: {"FrameContentSequence": [item(StackID=str(one + 1))]},
    "Trigger Time": lambda one: {
        "UnassignedPerFrameConvertedAttributesSequence": [item(TriggerTime=400.0 * one)]
    },
}


@pytest.mark.parametrize("name", IN_GROUPS)
def test_frames_at_each_place_are_told_apart(name: str, tmp_path: Path) -> None:
    both = [replace(one, shift=3000 * which) for which in (0, 1) for one in stack(6)]
    path = enhanced(write_series(tmp_path, both, modality="MR"), tmp_path / "whole.dcm", "4.1")
    dataset = dcmread(path)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        attribute(**IN_GROUPS[name](number // 6))(group)
    dataset.save_as(path)
    made, reasons = stacks([path])
    assert ([len(one.planes) for one in made], reasons) == ([6, 6], [])
    assert [[key for key, _ in one.apart] for one in made] == [[name]] * 2


@pytest.mark.parametrize("shape", ["a line", "one place", "every direction"])
def test_very_many_planes_are_no_long_work(shape: str, tmp_path: Path) -> None:
    ((one,), _) = planes(write_series(tmp_path, stack(1)))
    many = [
        replace(one, position=(0.0, 0.0, float(number)))
        if shape == "a line"
        else replace(one, frame=number)
        if shape == "one place"
        else replace(
            one,
            along_row=(math.cos(number / 1e4), math.sin(number / 1e4), 0.0),
            down_column=(0.0, 0.0, -1.0),
        )
        for number in range(40_000 if shape == "a line" else 10_000)
    ]
    began = time.process_time()
    made, astray = stacks_of(many)
    assert time.process_time() - began < 20
    assert sum(len(found.planes) for found in made) + len(astray) == len(many)
    assert (len(made) == 1) == (shape == "a line")


def test_a_cine_at_one_place_is_refused_as_what_it_is(tmp_path: Path) -> None:
    phases = [
        replace(stack(1)[0], shift=phase).with_extra(TriggerTime=40.0 * phase, InstanceNumber=phase + 1)
        for phase in range(12)
    ]
    found, _ = planes(write_series(tmp_path, phases, modality="MR"))
    made, astray = stacks_of(found)
    assert made == ()
    assert {reason.message for _, reason in astray} == {
        "12 planes at one place, told apart by Trigger Time: a cine or a series of measurements"
    }


def test_what_is_no_plane_of_the_volume_stands_beside_it(tmp_path: Path) -> None:
    localizer = Slice((0, -30, 0), cosines=(0, 1, 0, 0, 0, -1)).with_extra(
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    twice = stack()[4].with_extra(InstanceNumber=99)
    (made,), reasons = stacks(write_series(tmp_path, [localizer, *stack(), twice]))
    assert len(made.planes) == 10
    assert reasons == ["not-a-plane", "duplicate-plane"]
    assert true_to_place(read_volume(made))


@pytest.mark.parametrize(
    ("slices", "code"),
    [
        (stack()[:4] + stack()[5:], "missing-planes"),
        (stack()[:1], "single-plane"),
        ([*stack(), replace(stack()[9], position=(-20, -30, 250))], "irregular-volume"),
        (stack()[:5] + [replace(one, position=(-20, -30, one.position[2] + 0.7)) for one in stack()[5:]],
         "irregular-volume"),
        ([replace(one, position=(-20 + 9 * (place == 5), -30, one.position[2])) for place, one in enumerate(stack())],
         "irregular-volume"),
        (stack() + [replace(one, shift=9) for one in stack()], "several-at-one-place"),
    ],
)  # fmt: skip
def test_what_cannot_be_placed_is_refused_by_name(slices: list[Slice], code: str, tmp_path: Path) -> None:
    made, reasons = stacks(write_series(tmp_path, slices))
    told = list(reasons)
    for one in made:
        try:
            read_volume(one)
        except FailStudy as error:
            told.append(error.code)
        else:
            told.append("read")
    assert set(told) == {code}


def test_a_gap_is_named_by_its_place(tmp_path: Path) -> None:
    (made,), _ = stacks(write_series(tmp_path, stack()[:4] + stack()[6:]))
    assert made.missing == ((4, 2),)
    assert np.isclose(made.affine[2, 0], 2.0), "the gap does not stretch the others"


def test_another_size_or_spacing_is_another_stack(tmp_path: Path) -> None:
    wider = [replace(one, spacing=(0.9, 0.9)) for one in stack()[5:]]
    made, reasons = stacks(write_series(tmp_path, stack()[:5] + wider))
    assert ([len(one.planes) for one in made], reasons) == ([5, 5], [])
    assert all(true_to_place(read_volume(one)) for one in made)


def test_padding_outside_the_scanned_circle_is_air(tmp_path: Path) -> None:
    dark = [one.with_extra(PixelPaddingValue=int(one.pixels()[0, 0]) + 1024) for one in stack()]
    (made,), _ = stacks(write_series(tmp_path, dark))
    assert read_volume(made).values[:, 0, 0].tolist() == [LOWEST_HU] * 10


def test_no_position_is_no_volume(tmp_path: Path) -> None:
    paths = write_series(tmp_path, [one.with_extra(ImagePositionPatient=[]) for one in stack()])
    assert stacks(paths) == ((), ["no-position"] * 10)


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.5, 7),
    tilt=st.floats(-0.4, 0.4),
    order=st.permutations(range(6)),
)
def test_any_direction_tilt_and_order(
    angles: tuple[float, float, float],
    step: float,
    tilt: float,
    order: list[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A stack at any angle, sheared by any tilt, its files in any order: every voxel at its place."""
    a, b, c = angles
    turn = (
        np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        @ np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
        @ np.array([[1, 0, 0], [0, math.cos(c), -math.sin(c)], [0, math.sin(c), math.cos(c)]])
    )
    along = turn @ np.array([0, math.sin(tilt), math.cos(tilt)]) * step
    cosines = tuple(float(part) for part in (*turn[:, 0], *turn[:, 1]))
    slices = stack(
        6, step=(float(along[0]), float(along[1]), float(along[2])), cosines=cosines, rows=20, columns=16
    )
    paths = write_series(tmp_path_factory.mktemp("any"), [slices[place] for place in order])
    (made,), reasons = stacks(paths)
    assert reasons == []
    assert math.isclose(made.tilt, abs(math.degrees(tilt)), abs_tol=0.2)
    assert true_to_place(read_volume(made))
