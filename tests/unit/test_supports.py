"""What each sentence of a draft rests on."""

from dataclasses import replace

from models.drafter import Drafter
from models.families import SeenImage
from models.findings_text import read_findings
from models.supports import MOST_IMAGES, supports
from pipeline.report import DraftReport, Language, Region, Side, Support
from pipeline.study import InstanceRef
from tests.answering_family import AnsweringFamily
from tests.tiny_model import film_study

FILM, LATERAL = InstanceRef("1", "1.1", "1.1.1"), InstanceRef("1", "1.1", "1.1.2")
SEEN = (SeenImage(FILM, 0, 100, 100),)
LEFT, RIGHT = Region(FILM, 0, 60, 60, 90, 90), Region(FILM, 0, 10, 60, 40, 90)
TEXT = "There is a small left pleural effusion and a small right pleural effusion. No pneumothorax. Lines are tidy."


def found(text: str) -> list[Support]:
    """The supports of ``text`` as an impression of TEXT."""
    places = {Side.LEFT: LEFT, Side.RIGHT: RIGHT}
    findings = [
        replace(one, region=places.get(one.side) if one.side and one.present else None)
        for one in read_findings(TEXT)
    ]
    return list(supports(TEXT, text, findings, SEEN))


def test_findings_rest_on_their_regions_else_on_the_image() -> None:
    first, second, third, fourth, *_ = found("Effusion.")
    assert (first.region, second.region) == (LEFT, RIGHT)
    assert first.sentence == second.sentence == TEXT.split(". ")[0] + "."
    assert third == Support("findings", "No pneumothorax.", FILM)
    assert fourth == Support("findings", "Lines are tidy.", FILM)


def test_the_impression_rests_on_the_finding_it_repeats() -> None:
    def last(text: str) -> list[Support]:
        return [one for one in found(text) if one.section == "impression"]

    left = "Small left pleural effusion."
    assert last(left) == [Support("impression", left, FILM, LEFT)]
    both = "Bilateral pleural effusions."
    assert [one.region for one in last(both)] == [LEFT, RIGHT]
    assert last("No pneumothorax.") == [Support("impression", "No pneumothorax.", FILM)]
    for own in ("Follow up.", "Cardiomegaly.", "Left pneumothorax."):
        assert last(own) == [Support("impression", own, source="findings")]


def test_a_sentence_without_a_region_rests_on_every_film_and_on_the_first_of_many_slices() -> None:
    two = (*SEEN, SeenImage(LATERAL, 0, 100, 100))
    assert [one.image for one in supports("Clear.", "", (), two)] == [FILM, LATERAL]
    slices = [SeenImage(InstanceRef("1", "1.1", f"1.1.{n}"), 0, 9, 9) for n in range(90)]
    assert len(supports("Clear.", "", (), slices)) == MOST_IMAGES
    assert supports("", "", (), SEEN) == ()


def test_a_sentence_of_comparison_rests_on_the_earlier_film_too() -> None:
    prior = InstanceRef("0", "0.1", "0.1.1")
    text = "The effusion is unchanged. No pneumothorax."
    rests = supports(text, "心影较前增大。", (), SEEN, (prior,))
    assert [one.sentence for one in rests if one.image == prior] == [
        "The effusion is unchanged.",
        "心影较前增大。",
    ]
    assert not [one for one in supports(text, "", (), SEEN) if one.image == prior]


def test_every_sentence_of_a_draft_has_a_support() -> None:
    drafter = Drafter(AnsweringFamily(), Language.ENGLISH, "code")
    (draft,) = drafter.write(drafter.encode([film_study(1)]))
    assert isinstance(draft, DraftReport)
    told = [(one.section, one.sentence, one.region is not None, one.source) for one in draft.supports]
    assert told == [
        ("findings", "There is a small left pleural effusion.", True, ""),
        ("findings", "No pneumothorax.", False, ""),
        ("findings", "The heart is normal in size.", False, ""),
        ("impression", "Small left pleural effusion.", True, ""),
        ("impression", "Follow up.", False, "findings"),
    ]
