"""Which pictures stand beside a draft: the marked planes first, the others evenly, each with what it is under it."""

from dataclasses import replace

import pytest

from flows.shown_pictures import MOST_MARKED, captions, marked_first
from pipeline.images import shown_to_people
from pipeline.images.captions import range_shown
from pipeline.images.preview import MOST_SHOWN
from pipeline.report import DraftReport, Extent, Place, Region
from pipeline.study import ImageSet, InstanceRef, StudyImage
from pipeline.web.review_view import review_view
from tests.invented_outcomes import answered_outcome, invented_outcome
from tests.memory_reader import MemoryReader
from tests.tiny_model import film_study

PLANES = 30


def study() -> ImageSet:
    """Thirty planes of one series."""
    (film,) = film_study(1).images
    refs = [InstanceRef("1.2.1", "1.2.1.1", f"1.2.1.1.{number}") for number in range(PLANES)]
    images = tuple(replace(film, ref=ref, caption=f"plane {number}") for number, ref in enumerate(refs))
    return replace(film_study(1), images=images)


def extent_over(images: tuple[StudyImage, ...]) -> Extent:
    return Extent(tuple((one.ref, one.frame) for one in images), 10, 10, 40, 40)


def drafted(*places: Place) -> DraftReport:
    """A draft with one answer that names ``places``, and no findings."""
    draft = answered_outcome(0).draft
    answer = replace(draft.answers[0], places=places)
    return replace(draft, findings=(), supports=(), answers=(answer,))


def numbers(draft: DraftReport, images: ImageSet) -> list[int]:
    shown = marked_first(draft, images, shown_to_people(images.images))
    words = [one.words for one in captions(images, shown)]
    assert len(words) == len(shown) <= MOST_SHOWN
    return [int(one.removeprefix("plane ")) for one in words]


def test_marked_planes_come_first_and_the_others_evenly() -> None:
    images = study()
    plain = numbers(drafted(), images)
    assert plain == sorted(plain), "nothing is marked: as they lie"
    ref = images.images[17].ref
    marked = drafted(
        Place("nodule", region=Region(ref, 0, 1, 1, 5, 5)),
        Place("mass", extent=extent_over(images.images[3:6])),
    )
    found = numbers(marked, images)
    assert found[:4] == [17, 3, 4, 5]
    assert found[4:] == sorted(found[4:])
    assert (found[4], found[-1]) == (0, 29)
    assert len(set(found)) == MOST_SHOWN


def test_a_box_through_all_planes_leaves_room_for_others() -> None:
    images = study()
    found = numbers(drafted(Place("spine", extent=extent_over(images.images[:20]))), images)
    assert all(one < 20 for one in found[:MOST_MARKED])
    assert found[-1] == 29


def test_the_page_says_what_a_picture_is() -> None:
    reader = MemoryReader()
    outcome = invented_outcome(1)
    (ref,) = outcome.draft.images
    images = replace(
        film_study(1), images=(replace(film_study(1).images[0], ref=ref, caption="Radiograph, PA"),)
    )
    reader.save_all(
        [replace(outcome, draft=replace(outcome.draft, captions=captions(images, outcome.previews)))]
    )
    (detail,) = reader.details.values()
    (picture,) = review_view(detail).pictures
    assert picture.caption == "Radiograph, PA"
    assert "one of 1: Radiograph, PA. Marked" in picture.alternative
    (bare,) = review_view(replace(detail, draft=replace(detail.draft, captions=()))).pictures
    assert (bare.caption, "one of 1. Marked" in bare.alternative) == ("", True), "a draft of before"


@pytest.mark.parametrize(
    ("ranges", "unit", "said"),
    [
        ([(-160.0, 240.0)], "HU", "window -160 to 240 HU"),
        ([(-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0)], "HU",
         "windows -1024 to 1024, -135 to 215, 0 to 80 HU as red, green and blue"),
        ([(0.0, 10.0)], "SUV", "SUV 0 to 10"),
        ([(12.25, 801.0)], "", "values 12.25 to 801"),
    ],
)  # fmt: skip
def test_what_is_shown_of_values(ranges: list[tuple[float, float]], unit: str, said: str) -> None:
    assert range_shown(ranges, unit) == said
