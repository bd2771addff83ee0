"""Body parts: the table beside pydicom's dictionaries, and codes before defined terms before words."""

import tomllib
from importlib.resources import files
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from pipeline.images.body_parts import body_part_of, certain_part_of, part_called

TABLE = tomllib.loads(files("pipeline.images").joinpath("body_parts.toml").read_text("utf-8"))
_SNOMED: Any = concepts["SCT"]
NAMES = {code: meaning for names in _SNOMED.values() for code, (meaning, _) in names.items()}


def header(*, code: str = "", meaning: str = "", **said: str) -> Dataset:
    dataset = Dataset()
    if code or meaning:
        region = Dataset()
        region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code, "SCT", meaning
        dataset.AnatomicRegionSequence = Sequence([region])
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("term", TABLE)
def test_a_code_is_the_one_of_the_standard(term: str) -> None:
    """PS3.16 by way of pydicom's dictionary: the code is known and its name is the display."""
    entry = TABLE[term]
    assert NAMES[entry["snomed"]].replace(" (body structure)", "") == entry["display"]
    for code in entry.get("codes", "").split():
        if not code.isdigit():
            current = mapping["SRT"][code]
            assert current in (entry["snomed"], *entry["codes"].split()), code
    assert set(entry.get("holds", "").split()) <= set(TABLE)


def test_no_code_term_or_word_names_two_parts() -> None:
    for key in ("codes", "aliases", "words"):
        spoken = [one for entry in TABLE.values() for one in entry.get(key, "").split()]
        assert len(spoken) == len(set(spoken)), key


@pytest.mark.parametrize(
    ("dataset", "term", "source"),
    [
        (header(code="85562004", BodyPartExamined="CHEST"), "HAND", "AnatomicRegionSequence"),
        (header(code="T-D3000"), "CHEST", "AnatomicRegionSequence"),
        (header(BodyPartExamined="C SPINE", StudyDescription="CT head"), "CSPINE", "BodyPartExamined"),
        (header(BodyPartExamined="ABDOMEN_PELVIS"), "ABDOMENPELVIS", "BodyPartExamined"),
        (header(BodyPartExamined="UNKNOWN", SeriesDescription="Schädel nativ"), "SKULL", "SeriesDescription"),
        (header(ProtocolName="Abdomen and Pelvis"), "ABDOMENPELVIS", "ProtocolName"),
        (header(StudyDescription="头颅CT 脑"), "BRAIN", "StudyDescription"),
        (header(StudyDescription="MR of the lumbar spine"), "LSPINE", "StudyDescription"),
    ],
)
def test_the_nearest_to_a_code_decides(dataset: Dataset, term: str, source: str) -> None:
    named = body_part_of(dataset)
    assert named is not None
    assert (named.part.term, named.source) == (term, source)


@pytest.mark.parametrize(
    "said",
    [
        {"StudyDescription": "Knee and hip"}, {"StudyDescription": "Follow-up"}, {},
        {"SeriesDescription": "hand, wrist", "StudyDescription": "hand"},
    ],
)  # fmt: skip
def test_two_parts_or_none_are_no_guess(said: dict[str, str]) -> None:
    assert body_part_of(header(**said)) is None


def test_a_description_is_no_certain_part() -> None:
    assert certain_part_of(header(SeriesDescription="knee")) is None
    named = body_part_of(header(SeriesDescription="knee"))
    assert named is not None
    assert not named.certain


def test_a_part_covers_what_lies_within() -> None:
    part = part_called("ABDOMENPELVIS")
    assert part is not None
    assert part.covers("ABDOMEN")
    assert not part.covers("CHEST")


def test_the_anatomy_of_frames_counts() -> None:
    region: Any = Dataset()
    region.CodeValue = "12738006"
    anatomy, shared, dataset = Dataset(), Dataset(), Dataset()
    anatomy.AnatomicRegionSequence = Sequence([region])
    shared.FrameAnatomySequence = Sequence([anatomy])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    named = body_part_of(dataset)
    assert named is not None
    assert (named.part.term, named.source) == ("BRAIN", "FrameAnatomySequence")
