"""A site's rules: the first that holds says what an instance is, and nothing becomes an input that never is one."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from flows.environment.workplace import archive_recipe
from pipeline.accepts import FILMS_ALONE, Accepts, Kind, StudyReader
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy
from pipeline.images import film_manifest, prepare_for, read_headers
from pipeline.images.headers import read_header, texts
from pipeline.images.instance_identity import identify
from pipeline.images.limits import ImageLimits
from pipeline.images.site_rules import SiteRule, ruled, site_rule
from pipeline.settings import Settings, load
from pipeline.study import ImageSet
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest

ROOT = "1.2.840.10008.5.1.4.1.1."
WORDS = (
    "BodyPartExamined", "ViewPosition", "AnatomicRegionSequence", "ViewCodeSequence", "SeriesDescription",
    "ProtocolName", "PatientOrientation",
)  # fmt: skip


def shown(
    folder: Path, change: Callable[[Any], object], *rules: SiteRule, reader: StudyReader = FILMS_ALONE
) -> ImageSet:
    path = write_chest(folder / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(256, 224))
    dataset = pydicom.dcmread(path)
    for keyword in WORDS:
        if keyword in dataset:
            delattr(dataset, keyword)
    change(dataset)
    dataset.save_as(path)
    study = fetched(folder, [path], "ruled")
    return prepare_for(study, read_headers(study, rules=rules), reader)[1]


def capture(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}7")
    dataset.Modality, dataset.ConversionType, dataset.StudyDescription = "OT", "WSD", "RIS import THX lying"


FILM = {"modality": "DX", "body_part": "CHEST", "view": "AP"}


def test_a_capture_is_the_film_that_the_rule_says(tmp_path: Path) -> None:
    with pytest.raises(SkipStudy):
        shown(tmp_path, capture)
    images = shown(tmp_path, capture, site_rule(1, {"Modality": "ot", "StudyDescription": "*thx*"}, FILM))
    assert [(one.view, one.body_part) for one in images.images] == [("AP", "CHEST")]
    assert [(one.code, one.message) for one in images.remarks] == [
        ("site-rule", "not by the header, by this site's rule 1: modality DX, body part CHEST, view AP")
    ]
    assert images.chest


def test_the_first_that_holds_decides(tmp_path: Path) -> None:
    out, film = site_rule(1, {"StudyDescription": "*SCREEN*"}, {}), site_rule(2, {"Modality": "OT"}, FILM)
    assert shown(tmp_path, capture, out, film).images

    def screen(dataset: Dataset) -> None:
        capture(dataset)
        dataset.StudyDescription = "a screen shot"

    with pytest.raises(SkipStudy) as refused:
        shown(tmp_path, screen, out, film)
    assert (refused.value.code, refused.value.message) == (
        "site-rule", "no frontal chest radiograph: by this site's rule 1: left out",
    )  # fmt: skip


def test_a_colour_capture_is_what_the_rule_says(tmp_path: Path) -> None:
    reader = StudyReader("a", accepts=(Accepts(Kind.OPHTHALMIC),))

    def eye(dataset: Dataset) -> None:
        capture(dataset)
        dataset.StudyDescription = "FUNDUS LE"

    rule = site_rule(1, {"StudyDescription": "*FUNDUS*"}, {"modality": "OP", "laterality": "L"})
    images = shown(tmp_path, eye, rule, reader=reader)
    assert [one.modality for one in images.images] == ["OP"]
    assert not images.chest


def processed(dataset: Dataset) -> None:
    capture(dataset)
    dataset.ImageType = ["DERIVED", "SECONDARY", "LOCALIZER"]


def raw(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}1.1.1")


def segmentation(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}66.4")


def label(dataset: Dataset) -> None:
    capture(dataset)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LABEL"]


def bone(dataset: Dataset) -> None:
    capture(dataset)
    dataset.SeriesDescription = "bone suppressed"


@pytest.mark.parametrize("change", [processed, raw, segmentation, label, bone])
def test_no_rule_makes_an_input_of_what_never_is_one(change: Callable[[Any], object], tmp_path: Path) -> None:
    reader = StudyReader("a", accepts=(Accepts(Kind.PHOTOGRAPH), Accepts(Kind.SLIDE)))
    with pytest.raises((SkipStudy, FailStudy)):
        shown(tmp_path, change, site_rule(1, {"PatientID": "*"}, FILM), reader=reader)


def test_a_rejection_is_not_left_out(tmp_path: Path) -> None:
    """A rule that leaves out key objects would bring rejected films back."""
    path = write_chest(tmp_path / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(48, 40))
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}88.59")
    dataset.save_as(path)
    study = fetched(tmp_path, [path], "ruled")
    assert len(read_headers(study, rules=[site_rule(1, {"PatientID": "*"}, {})]).headers) == 1


def test_modality_of_a_class_that_says_it_stays(tmp_path: Path) -> None:
    """A DX image is no photograph, whatever a rule says."""
    path = write_chest(tmp_path / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(48, 40))
    study = fetched(tmp_path, [path], "ruled")
    (header,) = read_headers(study, rules=[site_rule(1, {"PatientID": "*"}, {"modality": "XC"})]).headers
    assert identify(header.dataset).kind is Kind.FILM


def test_what_a_rule_decided_is_named_as_its_source(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(48, 40))
    study = fetched(tmp_path, [path], "ruled")
    (header,) = read_headers(study, rules=[site_rule(3, {"PatientID": "*"}, {"body_part": "HAND"})]).headers
    sources = dict(identify(header.dataset).sources)
    assert (sources["body part"], sources["kind"]) == ("rule 3", "SOPClassUID")


def test_a_rule_against_the_chest_keeps_a_film_out_and_changes_the_manifest(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(256, 224))
    study = fetched(tmp_path, [path], "ruled")
    hand = read_headers(study, rules=[site_rule(1, {"StudyDescription": "*"}, {"body_part": "HAND"})])
    assert film_manifest(study, hand) != film_manifest(study, read_headers(study))
    with pytest.raises(SkipStudy) as refused:
        prepare_for(study, hand)
    assert refused.value.code == "not-chest"


@pytest.mark.parametrize(
    ("wanted", "value", "holds"),
    [
        ("*thorax*", "RX THORAX F", True), ("thorax", "RX THORAX", False), ("t?orax", "Thorax", True), ("", "", True),
        ("", "x", False), ("[a-z]*", "abc", False), ("a+", "aa", False), ("*\\*", "a", False),
        ("a*b*c", "a1b2b3c", True), ("a*b*c", "acb", False), ("*ab*ab", "xabab", True), ("*ab*ab", "xab", False),
        ("**", "x", True), ("a**?c", "abbc", True), ("ab*b", "ab", False), ("*" + "a*" * 12 + "b", "a" * 1024, False),
    ],
)  # fmt: skip
def test_comparisons_are_plain(wanted: str, value: str, holds: bool) -> None:
    dataset = Dataset()
    if value:
        dataset.ImageComments = value
    assert site_rule(1, {"ImageComments": wanted}, {}).holds(partial(texts, dataset)) is holds


def test_a_header_of_very_many_values_is_read_once_for_all_rules(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "1.dcm", radiograph_header("ruled"), pixels=chest_pixels(256, 224))
    dataset = pydicom.dcmread(path)
    dataset.StudyDescription = ["A"] * 20_000
    dataset.save_as(path)
    rules = [site_rule(number, {"StudyDescription": "*b*"}, {}) for number in range(200)]
    begun = time.process_time()
    ruled(read_header(path, ImageLimits()), rules)
    assert time.process_time() - begun < 0.12, "each rule read all of them"


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ({"NoSuchThing": "x"}, {}), ({"Modality": "x"}, {"modality": "SEG"}), ({"Modality": "x"}, {"modality": "QQ"}),
        ({"Modality": "x"}, {"body_part": "ELSEWHERE"}), ({"ViewCodeSequence": "*"}, {}), ({"PixelData": "*"}, {}),
    ],
)  # fmt: skip
def test_a_rule_that_dicom_does_not_know_is_refused(when: dict[str, str], says: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="rule 1"):
        site_rule(1, when, says)


TABLES = """
[archives.main]
kind = "folder"
path = "/data"
[[archives.main.rules]]
when = { StudyDescription = "*SCREEN*" }
then = "leave-out"
[[archives.main.rules]]
when = { Modality = "OT" }
then = { modality = "DX", body_part = "CHEST" }
"""


def test_rules_are_read_in_order_and_part_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(TABLES)
    settings = load(path)
    assert [rule.says for rule in settings.archives["main"].rules] == [
        {}, {"modality": "DX", "body_part": "CHEST"},
    ]  # fmt: skip
    ruled = archive_recipe(settings, "main", "abc")
    assert ruled not in ("abc", archive_recipe(Settings(), "main", "abc"))
    path.write_text(TABLES.replace('"OT"', '"SC"'))
    assert archive_recipe(load(path), "main", "abc") != ruled


@pytest.mark.parametrize(
    "then", ['"keep"', "{}", "{ kind = 'film' }", "{ modality = 'seg mentation' }", "{ view = 'UP' }"]
)
def test_a_verdict_that_says_nothing_is_refused(then: str, tmp_path: Path) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(TABLES.replace('"leave-out"', then))
    with pytest.raises(ConfigurationError):
        load(path)
