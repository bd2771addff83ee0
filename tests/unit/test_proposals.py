"""The presentation contexts that a C-GET proposes, by what is known of the classes of a study."""

from pydicom._uid_dict import UID_dictionary

from pipeline.archive.dimse.information_model import STORAGE_CLASSES
from pipeline.archive.dimse.negotiation import TRANSFER_SYNTAXES, VIDEO_SYNTAXES
from pipeline.archive.dimse.pdu import (
    MOST_CONTEXTS,
)
from pipeline.archive.dimse.proposals import as_stored, get_proposals
from pipeline.dicom_writer import DX_IMAGE_STORAGE

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def test_where_a_class_is_not_said_every_class_is_proposed_first() -> None:
    """An archive that does not tell SOP Classes (dcmqrscp) has anything; each class fits into one context."""
    report = "1.2.840.10008.5.1.4.1.1.88.59"
    first, second = get_proposals([report, ""])
    classes = [context.abstract_syntax for context in first[2:]]
    assert len(first) <= MOST_CONTEXTS
    assert len(set(classes)) == len(classes)
    assert {report, DX_IMAGE_STORAGE, ENCAPSULATED_PDF, "1.2.840.10008.5.1.4.1.1.66.4"} <= set(classes)
    assert all(context.transfer_syntaxes == TRANSFER_SYNTAXES for context in first[2:])
    assert DX_IMAGE_STORAGE in {context.abstract_syntax for context in second}


def test_where_every_class_is_said_each_is_proposed_as_it_may_be_stored() -> None:
    first, second = get_proposals([DX_IMAGE_STORAGE])
    assert [context.transfer_syntaxes for context in first[2:]] == [(one,) for one in TRANSFER_SYNTAXES]
    assert {context.abstract_syntax for context in first[2:]} == {DX_IMAGE_STORAGE}
    assert ENCAPSULATED_PDF in {context.abstract_syntax for context in second}


def test_a_clip_may_be_stored_as_a_video() -> None:
    """One that is (PS3.5 8.2.5 to 8.2.8) goes in no other syntax: an archive that is not asked for it sends nothing."""
    first, _ = get_proposals(["1.2.840.10008.5.1.4.1.1.77.1.1.1"])
    asked = [context.transfer_syntaxes for context in first[2:]]
    assert asked == [(one,) for one in (*TRANSFER_SYNTAXES, *VIDEO_SYNTAXES)]
    named = {uid for uid, (name, *_) in UID_dictionary.items() if "MPEG" in name or "HEVC" in name}
    assert set(VIDEO_SYNTAXES) == named


def test_the_classes_are_those_of_the_standard() -> None:
    """By pydicom's dictionary, which is made from PS3.6."""
    known = {
        uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Storage" in name
    }
    younger = {f"1.2.840.10008.5.1.4.1.1.66.{number}" for number in (7, 8)}  # label maps, height maps
    assert set(STORAGE_CLASSES) <= known | younger
    assert len(set(STORAGE_CLASSES)) == len(STORAGE_CLASSES) <= MOST_CONTEXTS - 2


def test_at_most_128_contexts_announced_classes_first() -> None:
    announced = [f"1.2.840.10008.5.1.4.1.1.{n}" for n in range(1, 40)]
    contexts, *more = as_stored(announced)
    assert len(contexts) == MOST_CONTEXTS
    pairs = {(one.abstract_syntax, one.transfer_syntaxes) for part in (contexts, *more) for one in part[2:]}
    assert pairs == {(one, (syntax,)) for one in announced for syntax in TRANSFER_SYNTAXES}, "then the rest"
    assert {context.abstract_syntax for context in contexts[2:41]} == set(announced)
    assert len({context.context_id for context in contexts}) == MOST_CONTEXTS
    assert all(context.context_id % 2 == 1 and 0 < context.context_id < 256 for context in contexts)
