"""The numbered marks of the review page, and sections cut at their sentences."""

from pipeline.report import DraftReport, Region, Support
from pipeline.study import InstanceRef
from pipeline.web.answers_view import answer_view
from pipeline.web.marks import Marks
from pipeline.web.review_view import review_view
from pipeline.web.sentences import Piece, pieces
from tests.invented_outcomes import START, answered_outcome
from tests.memory_reader import MemoryReader

DRAFT: DraftReport = answered_outcome(0).draft
REF = DRAFT.images[0]
BOX = DRAFT.findings[0].region


def cut(text: str, *supports: Support) -> tuple[Piece, ...]:
    return pieces("findings", text, supports, Marks(DRAFT), {REF: 1})


def test_the_text_stays_whole_whatever_the_supports() -> None:
    text = "  One.\n\nTwo. One. <b>Three</b>"
    supports = [Support("findings", one, REF) for one in ("One.", "Two.", "Absent.", "")]
    supports.append(Support("impression", "<b>Three</b>", REF))
    found = cut(text, *supports)
    assert "".join(piece.text for piece in found) == text
    assert [piece.text for piece in found if piece.target] == ["One.", "Two.", "One."]
    assert cut("") == ()
    assert cut(text) == (Piece(text),)


def test_a_sentence_inside_another_is_not_cut_out_of_it() -> None:
    found = cut(
        "No mass. No mass. No", Support("findings", "No mass. No", REF), Support("findings", "No", REF)
    )
    assert [piece.text for piece in found if piece.target] == ["No mass. No", "No"]


def test_a_sentence_leads_to_its_region_its_image_or_its_text() -> None:
    region, image, text, told, unseen = (
        cut("One.", support)[0]
        for support in (
            Support("findings", "One.", REF, BOX),
            Support("findings", "One.", REF),
            Support("findings", "One.", source="findings"),
            Support("findings", "One.", source="indication"),
            Support("findings", "One.", InstanceRef("9", "9", "9")),
        )
    )
    assert (region.target, region.marks, region.why) == ("region-1", (1,), "Rests on region 1 of the image")
    assert (image.target, image.marks) == ("picture-1", ())
    assert (text.target, text.why) == ("findings", "Rests on the findings")
    assert told == Piece("One.", why="Rests on the indication")
    assert unseen == Piece("One.", why="Rests on an image that is not shown here")


def test_a_sentence_says_all_that_it_rests_on() -> None:
    (piece,) = cut(
        "One.",
        Support("findings", "One.", REF, BOX),
        Support("findings", "One.", InstanceRef("9", "9", "9")),
        Support("findings", "One.", source="prior_report"),
    )
    assert piece.target == "region-1"
    assert piece.why == (
        "Rests on region 1 of the image; an image that is not shown here; the earlier report"
    )


def test_marks_are_numbered_findings_first_and_each_once() -> None:
    marks = list(Marks(DRAFT).placed())
    assert [(mark.number, mark.label, mark.kind, mark.is_point) for _, mark in marks] == [
        (1, "left pleural effusion", "finding", False),
        (2, "right nodule", "finding", False),
        (3, "heart", "answer", False),
        (4, "carina", "answer", True),
    ]
    twice = Region(REF, 0, 1, 2, 3, 4)
    assert Marks(DRAFT).of_region(twice) is None


def test_every_mark_lies_on_a_picture_or_is_counted_as_unseen() -> None:
    reader = MemoryReader()
    reader.save(answered_outcome(0), START)
    detail = reader.details["report-0"]
    view = review_view(detail)
    assert (len(view.pictures[0].marks), view.unseen) == (4, 0)
    assert view.pictures[0].alternative.endswith(
        "Marked regions: 1 left pleural effusion, 2 right nodule, 3 heart, 4 carina."
    )
    assert view.compared == "study of 2025-04-03"


def test_what_is_told_elsewhere_is_not_told_twice() -> None:
    classified, asked, *_, structured = (answer_view(answer, Marks(DRAFT)) for answer in DRAFT.answers)
    assert (classified.text, classified.labels[2].probability) == ("", "0.72")
    assert asked.text == "No, there is no pneumothorax."
    assert structured.structured.splitlines()[1] == '  "effusion": {'
