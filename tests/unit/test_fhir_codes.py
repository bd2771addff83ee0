"""Codes: the order's own first, then the checked table, then the generic one."""

import tomllib
from dataclasses import replace
from importlib.resources import files
from typing import Any, cast

import pytest
from pydicom.sr import codedict
from pydicom.sr._concepts_dict import concepts

from pipeline.fhir.codes import code_system, finding_code, is_loinc, named_kind, report_code
from pipeline.fhir.definitions import load
from pipeline.report import Finding, Language, Side
from pipeline.study import Code, ImageSet, InstanceRef
from pipeline.study_context import InstanceDescription
from tests.unit.fhir_samples import COMPLETE, CONTEXT, IMAGES, SHORT, SITE, STUDY


def films(*views: str, modality: str = "DX", body_part: str = "CHEST", used: int = 1) -> dict[str, Any]:
    """A study of one instance per view, the first ``used`` of which the model saw."""
    refs = [InstanceRef(STUDY, "2.25.1", f"2.25.1.{number}") for number in range(len(views))]
    instances = tuple(
        InstanceDescription(
            ref, "1.2.840.10008.5.1.4.1.1.1.1", modality, body_part=body_part, view_position=view
        )
        for ref, view in zip(refs, views, strict=True)
    )
    images = tuple(
        replace(IMAGES.images[0], ref=ref, view=view if view in ("PA", "AP") else "")
        for ref, view in list(zip(refs, views, strict=True))[:used]
    )
    context = replace(CONTEXT, instances=instances, procedure_codes=(), description="")
    return {"context": context, "image_set": ImageSet(STUDY, images)}


@pytest.mark.parametrize(
    ("study", "code"),
    [
        (films("PA"), "36554-4"),
        (films("AP"), "36572-6"),
        (films(""), "36554-4"),
        (films("PA", "LL"), "42272-5"),
        (films("AP", "RL"), "36687-2"),
        (films("PA", "AP"), "36643-5"),
        (films("PA", "LL", "RL"), "36298-8"),
        (films("PA", "AP", "LL", "RL"), "36320-0"),
        (films("PA", "PA"), "30745-4"),
        (films("PA", ""), "30745-4"),
        (films("PA", modality="CT"), "18748-4"),
        (films("PA", body_part="HAND", used=0), "18748-4"),
    ],
)
def test_code_of_the_views(study: dict[str, Any], code: str) -> None:
    concept = report_code(study["context"], study["image_set"], COMPLETE, SITE)
    assert concept["coding"] == [
        {"system": "http://loinc.org", "code": code, "display": concept["coding"][0]["display"]}
    ]
    assert is_loinc(code)


@pytest.mark.parametrize(
    ("modality", "parts", "name"),
    [
        ("CT", ("CHEST", "CHEST"), "Chest CT"),
        ("MR", ("BRAIN", ""), "Brain MRI"),
        ("CT", ("ABDOMEN", "PELVIS"), "Unspecified body region CT"),
        ("CT", ("", ""), "Unspecified body region CT"),
        ("DX", ("HAND", "HAND"), "Hand X-ray"),
        ("US", ("LIVER", "LIVER"), "Liver US"),
        ("MG", ("BREAST", "BREAST"), "Breast Mammogram"),
        ("XC", ("SKIN", "SKIN"), "Diagnostic imaging study"),
    ],
)
def test_code_of_other_kinds_by_modality_and_body_part(
    modality: str, parts: tuple[str, ...], name: str
) -> None:
    study = films("", "", modality=modality)
    instances = [
        replace(one, body_part=part) for one, part in zip(study["context"].instances, parts, strict=True)
    ]
    context = replace(study["context"], instances=tuple(instances))
    image_set = replace(study["image_set"], chest=False)
    (first,) = report_code(context, image_set, COMPLETE, SITE)["coding"]
    assert first["display"] == name
    assert is_loinc(first["code"])


def test_two_modalities_have_no_code_of_one() -> None:
    study = films("", "", modality="CT")
    first, second = study["context"].instances
    context = replace(study["context"], instances=(first, replace(second, modality="PT")))
    told = report_code(context, replace(study["image_set"], chest=False), COMPLETE, SITE)
    assert told["coding"][0]["code"] == "18748-4"


def test_views_are_not_counted_in_a_short_study() -> None:
    study = films("PA", "LL")
    assert report_code(study["context"], study["image_set"], SHORT, SITE)["coding"][0]["code"] == "30745-4"


def test_another_body_part_in_the_study_makes_it_generic() -> None:
    study = films("PA", "LL")
    first, second = study["context"].instances
    context = replace(study["context"], instances=(first, replace(second, body_part="HAND")))
    assert report_code(context, study["image_set"], COMPLETE, SITE)["coding"][0]["code"] == "18748-4"


def test_documents_beside_the_films_do_not_count() -> None:
    study = films("PA")
    state = InstanceDescription(InstanceRef(STUDY, "2.25.2", "2.25.3"), "1.2.840.10008.5.1.4.1.1.11.1", "PR")
    context = replace(study["context"], instances=(*study["context"].instances, state))
    assert report_code(context, study["image_set"], COMPLETE, SITE)["coding"][0]["code"] == "36554-4"


def test_the_orders_own_code_comes_first_and_local_codes_follow() -> None:
    codes = (
        Code("99X", "CXR 2", "Chest"),
        Code("LN", "36643-5", "XR Chest 2 Views"),
        Code("SCT", "399208008", "Chest X-ray"),
    )
    concept = report_code(replace(CONTEXT, procedure_codes=codes), IMAGES, COMPLETE, SITE)
    assert [one["code"] for one in concept["coding"]] == ["36643-5", "CXR 2", "399208008"]
    assert concept["coding"][1]["system"] == "urn:firstread:site:main:code:99X"
    assert concept["coding"][2]["system"] == "http://snomed.info/sct"


def test_an_order_code_with_a_wrong_check_digit_is_not_believed() -> None:
    codes = (Code("LN", "36643-6", "XR Chest 2 Views"),)
    concept = report_code(replace(CONTEXT, procedure_codes=codes), IMAGES, COMPLETE, SITE)
    assert [one["code"] for one in concept["coding"]] == ["42272-5"]


@pytest.mark.parametrize(
    ("code", "good"),
    [("18748-4", True), ("18748-5", False), ("LP29684-5", False), ("1-8", True), ("", False)],
)
def test_loinc_check_digit(code: str, good: bool) -> None:
    assert is_loinc(code) is good


def test_unknown_schemes_are_local() -> None:
    assert code_system("", SITE) == "urn:firstread:site:main:code:unnamed"
    assert code_system("my list", SITE) == "urn:firstread:site:main:code:my%20list"
    assert code_system("http://loinc.org", SITE) == "http://loinc.org"


def test_every_loinc_code_of_the_table_has_a_display_and_a_check_digit() -> None:
    table = tomllib.loads(files("pipeline.fhir").joinpath("loinc.toml").read_text("utf-8"))
    codes = {*table["report"].values(), *(one["code"] for one in table["sections"].values())}
    codes |= {code for parts in table["exam"].values() for code in parts.values()}
    assert sorted(codes) == sorted(table["display"])
    assert all(is_loinc(code) for code in codes)


def test_every_loinc_code_has_the_name_that_the_specification_gives_it() -> None:
    table = tomllib.loads(files("pipeline.fhir").joinpath("loinc.toml").read_text("utf-8"))
    named = load().loinc
    for code, display in table["display"].items():
        assert display in named[code]


def test_snomed_codes_of_findings_are_those_of_the_dicom_standard() -> None:
    table = tomllib.loads(files("pipeline.fhir").joinpath("findings.toml").read_text("utf-8"))
    meanings: dict[str, set[str]] = {}
    for codes in cast(Any, concepts["SCT"]).values():
        for code, (meaning, *_) in codes.items():
            meanings.setdefault(code, set()).add(meaning.lower())
    for kind, entry in table.items():
        if "snomed" in entry:
            assert entry["en"].lower() in meanings[entry["snomed"]], kind
        assert any(entry["site"]["en"] in one for one in meanings[entry["site"]["snomed"]]), kind


@pytest.mark.parametrize(
    ("sentence", "severity", "language", "own", "snomed"),
    [
        ("Mass in the left upper zone.", "large", Language.ENGLISH, "mass", "4147007"),
        ("There are two masses.", "", Language.ENGLISH, "mass", "4147007"),
        ("A nodule in the left upper zone.", "large", Language.ENGLISH, "nodule", "27925004"),
        ("A small nodule beside a mass.", "small", Language.ENGLISH, "nodule", "27925004"),
        ("A small nodule beside a mass.", "large", Language.ENGLISH, "mass", "4147007"),
        ("A massive opacity.", "", Language.ENGLISH, "nodule", "27925004"),
        ("", "large", Language.ENGLISH, "nodule", "27925004"),
        ("左上肺野肿块。", "large", Language.CHINESE, "mass", "4147007"),
        ("左上肺野结节。", "medium", Language.CHINESE, "nodule", "27925004"),
    ],
)
def test_a_finding_is_coded_by_what_its_sentence_names(
    sentence: str, severity: str, language: Language, own: str, snomed: str
) -> None:
    """Nodule and Mass are both in DICOM CID 6102 (PS3.16), as pydicom has it."""
    context_group = codedict.codes.cid6102
    assert snomed == {"mass": context_group.Mass, "nodule": context_group.Nodule}[own].value
    finding = Finding("nodule", True, Side.LEFT, severity=severity, sentence=sentence)
    code = finding_code(named_kind(finding, language), language)
    assert [one["code"] for one in code["coding"]] == [own, snomed]


def test_another_kind_keeps_its_code_beside_a_mass() -> None:
    finding = Finding("pleural_effusion", True, sentence="Mass with pleural effusion.")
    assert named_kind(finding, Language.ENGLISH) == "pleural_effusion"
