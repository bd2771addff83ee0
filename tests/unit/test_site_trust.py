"""What a site knows of its films: it fills what headers leave out, never against them, and the report says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from flows.environment.workplace import archive_recipe
from pipeline.errors import ConfigurationError, SkipStudy
from pipeline.images import prepare
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.settings import Settings, load
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest

RSNA = SiteTrust(frozenset({"WSD", "DF", "DI"}))
VINDR = SiteTrust(missing_body_part="chest", missing_view="PA")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def prepared(tmp_path: Path, change: Callable[[Dataset], object], trust: SiteTrust = HEADERS_ALONE) -> Any:
    path = write_chest(tmp_path / "1.dcm", radiograph_header("trust"), pixels=chest_pixels(256, 224))
    dataset = pydicom.dcmread(path)
    for keyword in (
        "BodyPartExamined", "ViewPosition", "AnatomicRegionSequence", "ViewCodeSequence", "StudyDescription",
        "SeriesDescription", "ProtocolName", "PatientOrientation",
    ):  # fmt: skip
        if keyword in dataset:
            delattr(dataset, keyword)
    change(dataset)
    dataset.save_as(path)
    return prepare(fetched(tmp_path, [path], "trust"), trust=trust)[1]


def as_rsna(dataset: Dataset) -> None:
    """As the pneumonia set of the RSNA comes: CR, Secondary Capture, made by a workstation."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(SECONDARY_CAPTURE)
    dataset.Modality, dataset.ConversionType = "CR", "WSD"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.SeriesDescription = "view: PA"


def test_films_under_secondary_capture_are_taken_where_the_site_says_so(tmp_path: Path) -> None:
    with pytest.raises(SkipStudy, match="secondary-capture"):
        prepared(tmp_path, as_rsna)
    images = prepared(tmp_path, as_rsna, RSNA)
    assert [image.view for image in images.images] == ["PA"]
    (said,) = images.remarks
    assert said.code == "site-trust"
    assert "WSD" in said.message


def test_a_digitised_film_needs_no_word_of_the_site(tmp_path: Path) -> None:
    def digitised(dataset: Dataset) -> None:
        as_rsna(dataset)
        dataset.ConversionType = "DF"

    assert prepared(tmp_path, digitised, RSNA).remarks == ()
    assert prepared(tmp_path, digitised).images


def test_emptied_headers_are_filled_and_it_is_said(tmp_path: Path) -> None:
    """VinDr-CXR: no body part, no description."""
    with pytest.raises(SkipStudy, match="body-part-unknown"):
        prepared(tmp_path, lambda _: None)
    images = prepared(tmp_path, lambda _: None, VINDR)
    assert [(image.view, image.body_part) for image in images.images] == [("PA", "CHEST")]
    assert [one.code for one in images.remarks] == ["site-trust"] * 2
    assert "body part is chest" in images.remarks[0].message


@pytest.mark.parametrize("value", ["", "UNKNOWN", "N/A", "Anonymized", "-"])
def test_a_word_that_says_nothing_is_filled(tmp_path: Path, value: str) -> None:
    images = prepared(tmp_path, lambda d: setattr(d, "BodyPartExamined", value), VINDR)
    assert len(images.images) == 1


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("BodyPartExamined", "HAND", "not-chest"),
        ("BodyPartExamined", "XYZ", "body-part-unknown"),
        ("SeriesDescription", "KNEE LEFT", "not-chest"),
        ("StudyDescription", "Chest and abdomen", "body-part-unknown"),
        ("ProtocolName", "Chest / hand", "body-part-unknown"),
    ],
)
def test_it_never_speaks_against_the_header(tmp_path: Path, keyword: str, value: str, code: str) -> None:
    with pytest.raises(SkipStudy, match=code):
        prepared(tmp_path, lambda d: setattr(d, keyword, value), VINDR)


@pytest.mark.parametrize(
    ("keyword", "value", "view"),
    [("ViewPosition", "AP", "AP"), ("SeriesDescription", "ap portable", "AP"), ("ViewPosition", "", "PA")],
)
def test_a_view_that_is_named_stays(tmp_path: Path, keyword: str, value: str, view: str) -> None:
    images = prepared(tmp_path, lambda d: setattr(d, keyword, value), VINDR)
    assert [image.view for image in images.images] == [view]


def test_a_lateral_is_not_made_frontal(tmp_path: Path) -> None:
    with pytest.raises(SkipStudy, match="lateral-view"):
        prepared(tmp_path, lambda d: setattr(d, "SeriesDescription", "LAT"), VINDR)


def test_an_emptied_modality_is_told_by_the_class(tmp_path: Path) -> None:
    def emptied(dataset: Dataset) -> None:
        dataset.Modality = ""
        dataset.BodyPartExamined = "CHEST"

    assert prepared(tmp_path, emptied).images


def configured(tmp_path: Path, trust: str) -> Settings:
    path = tmp_path / "firstread.toml"
    path.write_text(
        f'[archives.rsna]\nkind = "folder"\npath = "/x"\n{trust}\n[archives.b]\nkind = "folder"\npath = "/y"\n'
    )
    return load(path)


def test_it_is_part_of_the_recipe_of_its_archive_alone(tmp_path: Path) -> None:
    without = configured(tmp_path, "")
    table = "[archives.rsna.trust]\n"
    first = configured(tmp_path, table + 'conversion_types = ["WSD", "DF", "DI"]')
    same = configured(tmp_path, table + 'conversion_types = ["DI", "WSD", "DF"]')
    other = configured(tmp_path, table + 'missing_body_part = "chest"\nmissing_view = "PA"')
    recipes = [archive_recipe(one, "rsna", "recipe") for one in (without, first, other)]
    assert len(set(recipes)) == 3
    assert recipes[0] == "recipe"
    assert archive_recipe(same, "rsna", "recipe") == recipes[1]
    assert archive_recipe(first, "b", "recipe") == "recipe"
    assert archive_recipe(first, "rsna", "") == "", "what is not known stays so"


@pytest.mark.parametrize(
    "line",
    ['conversion_types = ["XYZ"]', 'missing_body_part = "hand"', 'missing_view = "LL"', 'missing = "PA"'],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"archives\.rsna"):
        configured(tmp_path, f"[archives.rsna.trust]\n{line}")
