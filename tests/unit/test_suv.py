"""Uptake by body weight: factors worked out by hand after QIBA's pseudo-code, and each header that is refused.

70 kg and 370 MBq of a half-life of 6,588 s (fluorine-18): one half-life lies between 10:00:00 and 11:49:48, so that
185 MBq are left and the factor is 70,000 g / 185,000,000 Bq.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images import prepare_for, read_headers
from pipeline.images.choose import Reason
from pipeline.images.headers import read_header
from pipeline.images.volumes import planes_of
from pipeline.images.volumes.plane import Plane
from pipeline.images.volumes.suv import suv_factor
from pipeline.images.volumes.voxels import PLANE_LIMITS
from tests.ct_series import enhanced, stack, value_at, write_series
from tests.synthetic import fetched

ONE_HALF_LIFE, AT_INJECTION = 70_000 / 185_000_000, 70_000 / 370_000_000
Change = Callable[[Dataset], None]


def administered(**other: object) -> list[Dataset]:
    item = Dataset()
    said: dict[str, object] = {
        "RadiopharmaceuticalStartTime": "100000", "RadionuclideTotalDose": 370_000_000,
        "RadionuclideHalfLife": 6588,
    }  # fmt: skip
    for keyword, value in (said | other).items():
        if value is not None:
            setattr(item, keyword, value)
    return [item]


def header(**other: object) -> dict[str, Any]:
    said = {
        "Units": "BQML", "CorrectedImage": ["DECY", "ATTN", "SCAT"], "DecayCorrection": "START", "PatientWeight": 70,
        "SeriesDate": "20310506", "SeriesTime": "114948", "AcquisitionDate": "20310506",
        "RadiopharmaceuticalInformationSequence": administered(),
    }  # fmt: skip
    return said | other


def written(folder: Path, said: dict[str, Any], change: Change | None = None) -> list[Path]:
    """Three planes, acquired two minutes apart."""
    planes = stack(3, rows=64, columns=64, intercept=0)
    times = said.pop("AcquisitionTimes", ("114948", "115148", "115348"))
    paths = write_series(
        folder,
        [plane.with_extra(**said, AcquisitionTime=clock) for plane, clock in zip(planes, times, strict=True)],
        modality="PT",
    )
    for path in paths if change else ():
        dataset = dcmread(path)
        assert change is not None
        change(dataset)
        dataset.save_as(path)
    return paths


def factor(folder: Path, said: dict[str, Any], change: Change | None = None) -> float | Reason:
    paths = written(folder, said, change)
    planes: list[Plane] = []
    for path in paths:
        found = planes_of(read_header(path, PLANE_LIMITS))
        assert not isinstance(found, Reason)
        planes += found
    return suv_factor(planes)


def private(group: int, creator: str, **elements: tuple[str, object]) -> Change:
    def change(dataset: Dataset) -> None:
        block = dataset.private_block(group, creator, create=True)
        for name, (vr, value) in elements.items():
            block.add_new(int(name.removeprefix("x"), 16), vr, value)

    return change


GE_TIME = private(0x0009, "GEMS_PETD_01", x0d=("DT", "20310506114948.00"))
WRITTEN_ANEW = {"SeriesTime": "150000"}
COMPUTED: list[tuple[str, dict[str, Any], Change | None, float]] = [
    ("to the start of the scan", {}, None, ONE_HALF_LIFE),
    ("to the injection", {"DecayCorrection": "ADMIN"}, None, AT_INJECTION),
    (
        "a series later than its acquisitions: the first of them",
        WRITTEN_ANEW, None, ONE_HALF_LIFE,
    ),
    (
        "GE keeps the time of the scan",
        {**WRITTEN_ANEW, "AcquisitionTimes": ("115500", "115700", "115900")}, GE_TIME, ONE_HALF_LIFE,
    ),
    (
        "GE's time is not asked where the series' own is sound",
        {}, private(0x0009, "GEMS_PETD_01", x0d=("DT", "20310506180000.00")), ONE_HALF_LIFE,
    ),
    (
        "injected before midnight",
        {
            "SeriesTime": "004948", "AcquisitionTimes": ("004948", "005148", "005348"),
            "RadiopharmaceuticalInformationSequence": administered(RadiopharmaceuticalStartTime="230000"),
        }, None, ONE_HALF_LIFE,
    ),
    (
        "an injection by another clock",
        {
            "TimezoneOffsetFromUTC": "+0200",
            "RadiopharmaceuticalInformationSequence": administered(
                RadiopharmaceuticalStartTime="111111", RadiopharmaceuticalStartDateTime="20310506080000.0+0000"
            ),
        }, None, ONE_HALF_LIFE,
    ),
    ("uptakes as stored", {"Units": "GML", "PatientWeight": None}, None, 1.0),
    (
        "Philips' factor to an uptake",
        {"Units": "CNTS"}, private(0x7053, "Philips PET Private Group", x00=("DS", "0.000551")), 0.000551,
    ),
    (
        "Philips' factor in bytes of an unknown kind",
        {"Units": "CNTS"}, private(0x7053, "Philips PET Private Group", x00=("UN", b"0.000551")), 0.000551,
    ),
    (
        "Philips' factor to becquerel where the other is 0",
        {"Units": "CNTS"},
        private(0x7053, "Philips PET Private Group", x00=("DS", "0"), x09=("DS", "2.5")), 2.5 * ONE_HALF_LIFE,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "change", "wanted"), [one[1:] for one in COMPUTED], ids=[one[0] for one in COMPUTED]
)
def test_factors_are_those_worked_out_by_hand(
    said: dict[str, Any], change: Change | None, wanted: float, tmp_path: Path
) -> None:
    found = factor(
        tmp_path, {key: value for key, value in header(**said).items() if value is not None}, change
    )
    assert found == pytest.approx(wanted, rel=1e-9)


def of_dose(**other: object) -> dict[str, Any]:
    return {"RadiopharmaceuticalInformationSequence": administered(**other)}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"PatientWeight": None}, "Weight is missing"),
        ({"PatientWeight": 70_000}, "Weight is missing or cannot be"),
        ({"CorrectedImage": ["DECY"]}, "attenuation"),
        ({"DecayCorrection": "NONE"}, "Decay Correction"),
        ({"Units": "PROPCPS"}, "Units"),
        ({"Units": "CNTS"}, "without the factor"),
        ({"Units": "GML", "SUVType": "LBM"}, "lean body mass"),
        (of_dose(RadionuclideTotalDose=370), "becquerel"),
        (of_dose(RadionuclideTotalDose=None), "becquerel"),
        (of_dose(RadionuclideHalfLife=None), "half-life is missing"),
        (of_dose(RadiopharmaceuticalStartTime=None), "time of the injection"),
        (of_dose(RadionuclideHalfLife=282_240), "no date with a long half-life"),  # zirconium-89
        (of_dose(RadiopharmaceuticalStartDateTime="20310506120000"), "after the scan"),
        (of_dose(RadiopharmaceuticalStartDateTime="20310101100000"), "too long before"),
        ({"RadiopharmaceuticalInformationSequence": administered() * 2}, "one radiopharmaceutical"),
        ({"AcquisitionDate": None}, "of an acquisition is missing"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "no PET image"),
    ],
)
def test_what_is_not_said_is_never_assumed(said: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = factor(tmp_path, {key: value for key, value in header(**said).items() if value is not None})
    assert isinstance(found, Reason)
    assert found.code == "no-suv"
    assert words in found.message


def item(**said: object) -> Dataset:
    found = Dataset()
    for keyword, value in said.items():
        setattr(found, keyword, value)
    return found


def mapping(slope: float, code: str = "{SUVbw}g/ml", intercept: float = 0.0) -> Dataset:
    """PS3.3 C.7.6.16.2.11, from stored values."""
    return item(
        RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=4095, RealWorldValueSlope=slope,
        RealWorldValueIntercept=intercept,
        MeasurementUnitsCodeSequence=[item(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning="made")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("slope", "mappings", "wanted"),
    [
        (2.0, [mapping(0.005)], 0.0025),  # no dose, no weight, no times are needed: SUV = 0.005 x stored
        (2.0, [mapping(2.0, "Bq/ml"), mapping(0.001, "{SUVlbm}g/ml"), mapping(0.005, "g/ml{SUVbw}")], 0.0025),
        (2.0, [mapping(2.0, "Bq/ml"), mapping(0.001, "{SUVlbm}g/ml")], None),
        (2.0, [mapping(0.005, intercept=3.0)], None),  # no factor leads from one to the other
    ],
)
def test_a_maker_s_own_mapping_comes_before_all(
    slope: float, mappings: list[Dataset], wanted: float | None, tmp_path: Path
) -> None:
    found = factor(
        tmp_path, {"Units": "PROPCPS", "RescaleSlope": slope, "RealWorldValueMappingSequence": mappings}
    )
    assert isinstance(found, Reason) if wanted is None else found == pytest.approx(wanted, rel=1e-9)


def enhanced_pet(folder: Path, **other: object) -> list[Plane]:
    """PS3.3 A.56: the dose in MBq, decay corrected to a moment that the header names."""
    dose = {"RadionuclideTotalDose": 370, "RadiopharmaceuticalStartDateTime": "20310506100000"}
    paths = written(folder, {"RescaleType": "BQML"})
    whole = enhanced(paths, folder / "whole.dcm", "130")
    dataset = dcmread(whole)
    said = {
        "DecayCorrected": "YES", "AttenuationCorrected": "YES", "DecayCorrectionDateTime": "20310506114948.00",
        "PatientWeight": 70, "RadiopharmaceuticalInformationSequence": administered(**dose),
    } | other  # fmt: skip
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    dataset.save_as(whole)
    found = planes_of(read_header(whole, PLANE_LIMITS))
    assert not isinstance(found, Reason)
    return list(found)


def test_an_enhanced_object_has_its_factor_by_its_own_words(tmp_path: Path) -> None:
    assert suv_factor(enhanced_pet(tmp_path)) == pytest.approx(ONE_HALF_LIFE, rel=1e-9)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"DecayCorrected": "NO"}, "corrected"),
        ({"DecayCorrectionDateTime": ""}, "time of the injection or that of"),
        ({"PatientWeight": None}, "Weight"),
        ({"RadiopharmaceuticalInformationSequence": administered()}, "megabecquerel"),  # 370,000,000 MBq
        ({"RescaleType": "US"}, "Bq/mL"),
    ],
)
def test_what_an_enhanced_object_leaves_out_is_not_assumed(
    other: dict[str, object], words: str, tmp_path: Path
) -> None:
    found = suv_factor(enhanced_pet(tmp_path, **other))
    assert isinstance(found, Reason)
    assert words in found.message


def test_frames_whose_slopes_differ_have_one_factor(tmp_path: Path) -> None:
    """Philips and Siemens scale each frame for itself, both ways alike: 0.0025 from Bq/mL to SUV in every frame."""
    planes = enhanced_pet(tmp_path, DecayCorrected="NO")
    for number, plane in enumerate(planes, 1):
        transformed = item(RescaleSlope=2.0 * number, RescaleIntercept=0, RescaleType="BQML")
        plane.groups[0].PixelValueTransformationSequence = [transformed]  # type: ignore[union-attr]
        plane.groups[0].RealWorldValueMappingSequence = [mapping(0.005 * number)]  # type: ignore[union-attr]
    planes = [replace(plane, slope=2.0 * number) for number, plane in enumerate(planes, 1)]
    assert suv_factor(planes) == pytest.approx(0.0025)
    assert isinstance(suv_factor([replace(planes[0], slope=4.0), *planes[1:]]), Reason)


def shown(folder: Path, said: dict[str, Any], accepted: Accepts) -> Any:
    paths = written(folder, said)
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    study = replace(fetched(folder, paths, uid), study_instance_uid=uid)
    return prepare_for(study, read_headers(study), StudyReader("a", accepts=(accepted,)))[1]


def test_a_model_is_shown_uptakes_in_its_range(tmp_path: Path) -> None:
    """5.6 MBq, one half-life: 70,000 / 2,800,000 = 0.025 for a value of one, so that 160 Bq/mL are white at SUV 4."""
    image_set = shown(
        tmp_path, header(**of_dose(RadionuclideTotalDose=5_600_000)), Accepts(Kind.SLICES, suv=(0.0, 4.0))
    )
    first = stack(3, rows=64, columns=64, intercept=0)[0]
    uptake = value_at(*first.places()) * 0.025
    assert np.abs(image_set.images[0].pixels[0, 0] - np.clip(uptake / 4, 0, 1)[0, 0]) < 0.02
    assert any("SUV by body weight from 0 to 4" in remark.message for remark in image_set.remarks)


def test_without_uptake_a_model_that_wants_it_is_not_shown_the_series(tmp_path: Path) -> None:
    said = header(DecayCorrection="NONE")
    with pytest.raises(SkipStudy, match="no SUV") as caught:
        shown(tmp_path / "a", dict(said), Accepts(Kind.SLICES, suv=(0.0, 10.0)))
    assert caught.value.code == "no-suv"
    image_set = shown(tmp_path / "b", dict(said), Accepts(Kind.SLICES))
    assert [one.message for one in image_set.remarks if one.code == "no-suv"] != []


def test_a_converted_series_has_the_factor_of_the_classic_one(tmp_path: Path) -> None:
    legacy = pytest.importorskip("highdicom.legacy")  # no file of its codec for Python 3.14 yet
    classic = [dcmread(path) for path in written(tmp_path, header())]
    for number, one in enumerate(classic, 1):
        one.Manufacturer, one.SliceThickness, one.PositionReferenceIndicator = "made", 2, ""
        one.InstanceNumber = number
    whole = legacy.LegacyConvertedEnhancedPETImage(classic, "1.2.3.4", 2, "1.2.3.5", 1)
    whole.save_as(tmp_path / "whole.dcm")
    found = planes_of(read_header(tmp_path / "whole.dcm", PLANE_LIMITS))
    assert not isinstance(found, Reason)
    assert suv_factor(found) == pytest.approx(ONE_HALF_LIFE)
    del whole.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence[0].DecayCorrection
    whole.save_as(tmp_path / "whole.dcm")
    found = planes_of(read_header(tmp_path / "whole.dcm", PLANE_LIMITS))
    assert not isinstance(found, Reason)
    assert "Decay Correction" in str(suv_factor(found))
