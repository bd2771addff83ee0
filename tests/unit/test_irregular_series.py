"""Series as archives hold them: mixed, interleaved, in time, with maps beside them; right, or refused in words.

The truth is again the position equation of PS3.3 C.7.6.2.1.1, by which ``tests.ct_series`` writes each voxel's value.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images import prepare_for, read_headers
from pipeline.images.volumes import read_volume
from pipeline.study import ImageSet
from tests.ct_series import Slice, stack, write_series
from tests.synthetic import fetched
from tests.unit.test_volumes import block, stacks, true_to_place

SLICES = StudyReader("a", accepts=(Accepts(Kind.SLICES, most=4),))


def shown(folder: Path, *series: list[Path]) -> ImageSet:
    paths = [path for one in series for path in one]
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    study = replace(fetched(folder, paths, uid), study_instance_uid=uid)
    return prepare_for(study, read_headers(study), SLICES)[1]


def in_time(clock: Any, *, moments: int = 3, **same: Any) -> list[Slice]:
    """Planes of several sweeps; ``clock`` gives the attributes of a plane by sweep and place."""
    return [
        replace(one, shift=1000 * moment, **same).with_extra(**clock(moment, place))
        for moment in range(moments)
        for place, one in enumerate(stack(6))
    ]


@pytest.mark.parametrize("keyword", ["ContentTime", "AcquisitionTime"])
def test_sweeps_that_time_alone_tells_apart_are_volumes(keyword: str, tmp_path: Path) -> None:
    """A perfusion whose every plane has a time of its own: each sweep is over before the next begins."""
    every = in_time(lambda moment, place: {keyword: f"0708{10 + moment}.{place}00000"})
    made, reasons = stacks(write_series(tmp_path, every))
    assert ([len(one.planes) for one in made], reasons) == ([6] * 3, [])
    assert all(true_to_place(read_volume(one), 1000 * moment) for moment, one in enumerate(made))
    assert {name for one in made for name, _ in one.apart} == {
        {"ContentTime": "Content Time", "AcquisitionTime": "Acquisition Time"}[keyword]
    }


@pytest.mark.parametrize(
    "clock",
    [
        lambda moment, place: {"ContentTime": f"0708{10 + moment - 2 * (place == 3)}.{place}00000"},
        lambda moment, place: {"ContentTime": f"070810.{place}00000"},
        lambda moment, place: {"ContentTime": "" if (moment, place) == (1, 2) else f"07081{moment}.{place}"},
    ],
    ids=["sweeps overlap", "no time tells", "one has none"],
)
def test_sweeps_that_time_does_not_part_are_refused(clock: Any, tmp_path: Path) -> None:
    made, reasons = stacks(write_series(tmp_path, in_time(clock)))
    assert (made, set(reasons)) == ((), {"several-at-one-place"})


def test_a_duplicate_that_was_stored_later_stays_one(tmp_path: Path) -> None:
    planes = [one.with_extra(ContentTime=f"07081{place}") for place, one in enumerate(stack())]
    again = planes[4].with_extra(ContentTime="231500", InstanceNumber=99)
    (made,), reasons = stacks(write_series(tmp_path, [*planes, again]))
    assert (len(made.planes), reasons) == (10, ["duplicate-plane"])


@pytest.mark.parametrize("keyword", ["SeriesNumber", "SeriesDescription"])
def test_two_series_of_one_uid_are_two_volumes(keyword: str, tmp_path: Path) -> None:
    both = [
        replace(one, shift=1000 * number).with_extra(**{keyword: str(number + 1)})
        for number in range(2)
        for one in stack(6)
    ]
    made, reasons = stacks(write_series(tmp_path, both))
    assert ([len(one.planes) for one in made], reasons) == ([6, 6], [])
    assert all(true_to_place(read_volume(one), 1000 * number) for number, one in enumerate(made))


def test_two_kernels_that_lie_between_each_other_are_never_one_volume(tmp_path: Path) -> None:
    """Half a step apart no place is taken twice: together they would be one volume of alternating sharpness."""
    soft = [one.with_extra(ConvolutionKernel="B30f") for one in stack(6)]
    hard = [
        replace(one, shift=1000).with_extra(ConvolutionKernel="B70f")
        for one in stack(6, origin=(-20, -30, -49))
    ]
    made, reasons = stacks(write_series(tmp_path, [*soft, *hard]))
    assert ([len(one.planes) for one in made], reasons) == ([6, 6], [])
    for one in made:
        sharp = one.planes[0].position[2] == -49
        assert true_to_place(read_volume(one), 1000 * sharp)


def test_odd_and_even_planes_of_two_acquisitions_are_one_volume(tmp_path: Path) -> None:
    """Interleaved MR: no place is taken twice, and nothing but the acquisition differs."""
    every = [one.with_extra(AcquisitionNumber=1 + place % 2) for place, one in enumerate(stack())]
    (made,), reasons = stacks(write_series(tmp_path, every[::2] + every[1::2], modality="MR"))
    assert (len(made.planes), reasons) == (10, [])
    assert true_to_place(read_volume(made))


def test_signed_and_unsigned_planes_are_one_volume(tmp_path: Path) -> None:
    """The rescale of each leads to the same values (PS3.3 C.7.6.3.1)."""
    paths = write_series(tmp_path, stack())
    for path in paths[::2]:
        dataset = dcmread(path)
        dataset.PixelRepresentation = 0  # all of its stored values are above zero
        dataset.save_as(path)
    (made,), reasons = stacks(paths)
    assert (len(made.planes), reasons) == (10, [])
    assert true_to_place(read_volume(made))


def test_a_tilt_that_changes_half_way_makes_two_volumes(tmp_path: Path) -> None:
    tilted = stack(5, origin=(-20, -30, -38), cosines=(1, 0, 0, 0, 0.9659258, -0.258819))
    made, reasons = stacks(write_series(tmp_path, [*stack(5), *tilted]))
    assert (sorted(one.sheared for one in made), reasons) == ([False, True], [])
    assert all(true_to_place(read_volume(one)) for one in made)


@pytest.mark.parametrize("left", [0, 5])
def test_one_plane_without_a_place_is_left_out_by_name(left: int, tmp_path: Path) -> None:
    planes = stack()
    planes[left] = planes[left].with_extra(ImagePositionPatient=[])
    made, reasons = stacks(write_series(tmp_path, planes))
    assert reasons == ["no-position"]
    assert [(len(one.planes), one.missing) for one in made] == [(9, () if left == 0 else ((5, 1),))]


def test_ge_s_part_of_the_complex_image_tells_phase_from_magnitude(tmp_path: Path) -> None:
    both = [replace(one, shift=3000 * part) for part in (0, 1) for one in stack(6)]
    paths = write_series(tmp_path, both, modality="MR")
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.Manufacturer = "GE MEDICAL SYSTEMS"
        block(0x43, "GEMS_PARM_01", 0x2F, "SS", number // 6)(dataset)
        dataset.save_as(path)
    made, reasons = stacks(paths)
    assert ([len(one.planes) for one in made], reasons) == ([6, 6], [])
    assert {name for one in made for name, _ in one.apart} == {"part of the complex image"}


MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "phase (Siemens)": ("MR", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
    "phase (Philips)": ("MR", {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}),
    "ADC": ("MR", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}),
    "T1": ("MR", {"ImageType": ["DERIVED", "PRIMARY", "T1 MAP", "ND"]}),
    "perfusion of CT": ("CT", {"ImageType": ["DERIVED", "SECONDARY", "PERFUSION", "CBF"]}),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_never_stands_for_the_images_it_was_made_from(name: str, tmp_path: Path) -> None:
    """A map of the lower series number and of one plane more: the images are shown all the same."""
    modality, said = MAPS[name]
    image = write_series(
        tmp_path / "b", [one.with_extra(SeriesNumber=9) for one in stack(6, rows=64, columns=64)],
        modality=modality, series="2",
    )  # fmt: skip
    a_map = write_series(
        tmp_path / "a", [one.with_extra(**said) for one in stack(7, rows=64, columns=64)], modality=modality
    )
    series = {one.ref.series_instance_uid for one in shown(tmp_path, a_map, image).images}
    assert series == {str(dcmread(image[0]).SeriesInstanceUID)}
    alone = shown(tmp_path, a_map)
    assert ["a map" in one.message for one in alone.remarks if one.code == "map-shown"] == [True]


@pytest.mark.parametrize("unit", ["MGML", "Z_EFF", "ED", "EDW", "PCT"])
def test_a_map_of_a_material_is_no_ct_in_hounsfield_units(unit: str, tmp_path: Path) -> None:
    """Dual energy: PS3.3 C.11.1.1.2 says what the values are; 5 mg/ml of iodine are no 5 HU."""
    iodine = write_series(
        tmp_path / "a", [one.with_extra(RescaleType=unit) for one in stack(7, rows=64, columns=64)]
    )
    with pytest.raises(SkipStudy, match="not Hounsfield units") as refused:
        shown(tmp_path, iodine)
    assert refused.value.code == "not-accepted"
    keV = write_series(  # noqa: N806 - a virtual image of one energy is in Hounsfield units
        tmp_path / "b",
        [
            one.with_extra(RescaleType="HU", SeriesNumber=9, ImageType=["DERIVED", "PRIMARY", "AXIAL", "VMI"])
            for one in stack(6, rows=64, columns=64)
        ],
        series="2",
    )
    image_set = shown(tmp_path, iodine, keV)
    assert {one.ref.series_instance_uid for one in image_set.images} == {
        str(dcmread(keV[0]).SeriesInstanceUID)
    }
    assert "HU" in image_set.images[0].caption


def test_a_ct_whose_modality_was_emptied_is_in_hounsfield_units(tmp_path: Path) -> None:
    made, _ = stacks(write_series(tmp_path, [one.with_extra(Modality="") for one in stack()]))
    assert made[0].planes[0].unit == "HU"


def test_a_pet_reprojection_is_no_volume(tmp_path: Path) -> None:
    """PS3.3 C.8.9.1.1.1: pictures of the whole body from all sides, each a projection."""
    turned = [one.with_extra(SeriesType=["WHOLE BODY", "REPROJECTION"]) for one in stack()]
    assert stacks(write_series(tmp_path, turned, modality="PT")) == ((), ["not-a-plane"] * 10)
