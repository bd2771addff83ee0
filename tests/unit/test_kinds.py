"""What an instance is: SOP Class before Modality, and a name for every kind that a radiographer knows."""

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images import refuse_unreadable
from pipeline.images.choose import refuse_unpresentable
from pipeline.images.kinds import in_words, kind_of, read_by_class

ROOT = "1.2.840.10008.5.1.4.1.1."
SLICES = Accepts(Kind.SLICES, ("CT", "MR"))


def instance(sop_class: str, modality: str, **more: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = sop_class, modality
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("suffix", "modality", "kind"),
    [
        ("2", "CT", Kind.SLICES),
        ("2.1", "CT", Kind.SLICES),
        ("4.4", "MR", Kind.SLICES),
        ("128", "PT", Kind.SLICES),
        ("77.1.6", "SC", Kind.SLIDE),  # a slide in the wild says Modality SC
        ("7", "XA", Kind.CINE),
        ("7", "NM", Kind.NUCLEAR),
        ("7.4", "ES", Kind.PHOTOGRAPH),
        ("7", "CT", Kind.CAPTURE),  # a screen of a CT has no Hounsfield units
        ("7", "OT", Kind.CAPTURE),
        ("77.1.5.4", "OPT", Kind.OCT),
        ("77.1.1.1", "ES", Kind.VIDEO),
        ("66.4", "SEG", Kind.RESULT),
        ("66.7", "SEG", Kind.RESULT),
        ("88.33", "SR", Kind.RESULT),
        ("11.1", "PR", Kind.RESULT),
        ("9.1.1", "ECG", Kind.RESULT),
        ("1.3", "IO", Kind.FILM),
        ("1.2", "MG", Kind.MAMMOGRAM),
        ("3", "US", Kind.CINE),  # retired classes, of which old archives are full
        ("6", "US", Kind.ULTRASOUND),
        ("5", "NM", Kind.NUCLEAR),
        ("77.1", "ES", Kind.PHOTOGRAPH),
        ("66.8", "SEG", Kind.RESULT),  # heightmaps, younger than pydicom's dictionary
    ],
)
def test_the_class_says_what_it_is(suffix: str, modality: str, kind: Kind) -> None:
    assert kind_of(instance(f"{ROOT}{suffix}", modality)) is kind


def test_a_tomosynthesis_sold_as_ct_has_no_hounsfield_units() -> None:
    sold = instance(f"{ROOT}2", "CT", BodyPartExamined="BREAST", ImageType=["DERIVED", "PRIMARY", "TOMO"])
    assert kind_of(sold) is Kind.TOMOSYNTHESIS


def test_every_class_of_the_standard_that_is_stored_has_a_name() -> None:
    """The classes that pydicom's dictionary calls storage, retired ones too; vendors' own may be unknown."""
    unknown = [
        name
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name
        if not any(other in name for other in ("Secondary Capture", "Commitment", "Media"))
        and in_words(instance(uid, "")) == "an object of an unknown class"
    ]
    assert unknown == []


@pytest.mark.parametrize(("suffix", "modality"), [("1.1.1", "DX"), ("13.1.5", "MG"), ("14.2", "IVOCT")])
def test_raw_images_are_neither_retrieved_nor_shown(suffix: str, modality: str) -> None:
    everything = tuple(Accepts(kind) for kind in Kind)
    assert not read_by_class(f"{ROOT}{suffix}", everything)
    reason = refuse_unpresentable(instance(f"{ROOT}{suffix}", modality))
    assert reason is not None
    assert reason.code == "for-processing"


@pytest.mark.parametrize("suffix", ["2", "77.1.6", "66.4", "3.1"])
def test_a_listing_is_refused_in_words_that_name_it(suffix: str) -> None:
    with pytest.raises(SkipStudy) as refused:
        refuse_unreadable([], [f"{ROOT}{suffix}"])
    assert in_words(instance(f"{ROOT}{suffix}", "")) in refused.value.message


def test_what_a_model_accepts_is_retrieved() -> None:
    refuse_unreadable(["CT"], [f"{ROOT}2"], StudyReader("umit", accepts=(SLICES,)))
    refuse_unreadable(["MR"], [""], StudyReader("umit", accepts=(SLICES,)))
    with pytest.raises(SkipStudy):
        refuse_unreadable(["US"], [f"{ROOT}6.1"], StudyReader("umit", accepts=(SLICES,)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"least": 0}, {"least": 5, "most": 4}, {"windows": ((1, 0),)},
        {"windows": ((0, 1), (0, 1))},
    ],
)  # fmt: skip
def test_a_declaration_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"slices: (1 <= least|no window)"):
        Accepts(**{"kind": Kind.SLICES, "modalities": ("CT",), **wrong})  # type: ignore[arg-type]


def test_people_read_what_a_model_accepts() -> None:
    assert str(SLICES) == "slices (CT, MR), at most 32"
    assert str(Accepts(Kind.FILM, most=8)) == "film, at most 8"


def test_a_site_s_words_name_each_thing_once() -> None:
    accepts = (
        Accepts(Kind.SLICES, ("PT",), suv=(0, 10)),
        Accepts(Kind.SLICES, ("CT", "MR", "PT", "XA")),
        Accepts(Kind.MAMMOGRAM),
    )
    assert StudyReader("the models of this site", accepts=accepts).reads == (
        "the models of this site read frontal chest films, PET, CT, MR, rotational angiography and mammograms"
    )
