"""A section of a draft cut at its sentences, each with a way to what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.report import Support
from pipeline.study import InstanceRef
from pipeline.web.marks import Marks

SOURCES = {
    "findings": "the findings",
    "indication": "the indication",
    "technique": "the technique",
    "comparison": "what is said of the comparison",
    "prior_report": "the earlier report",
}
"""Input texts as the page names them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text; a sentence has ``why``, what it rests on in words, and ``target``, the fragment to go to.

    A sentence that rests on nothing that the page shows has no target. ``marks`` are the numbers of the regions that it
    rests on.
    """

    text: str
    target: str = ""
    why: str = ""
    marks: tuple[int, ...] = ()


def pieces(
    section: str, text: str, supports: Sequence[Support], marks: Marks, pictures: Mapping[InstanceRef, int]
) -> tuple[Piece, ...]:
    """``text`` in order and whole; what lies between sentences, or has no support, is a piece that rests on nothing.

    ``pictures`` gives the number of an instance's picture on the page.
    """
    resting: dict[str, list[Support]] = {}
    for support in supports:
        if support.section == section and support.sentence:
            resting.setdefault(support.sentence, []).append(support)
    return tuple(_cut(text, resting, marks, pictures))


def _cut(
    text: str, resting: Mapping[str, Sequence[Support]], marks: Marks, pictures: Mapping[InstanceRef, int]
) -> Iterator[Piece]:
    place = 0
    while place < len(text):
        found = [
            (at, -len(sentence), sentence) for sentence in resting if (at := text.find(sentence, place)) >= 0
        ]
        if not found:
            break
        at, _, sentence = min(found)
        if at > place:
            yield Piece(text[place:at])
        yield _piece(sentence, resting[sentence], marks, pictures)
        place = at + len(sentence)
    if place < len(text):
        yield Piece(text[place:])


def _piece(
    sentence: str, supports: Sequence[Support], marks: Marks, pictures: Mapping[InstanceRef, int]
) -> Piece:
    regions = (marks.of_region(one.region) for one in supports if one.region is not None)
    numbers = tuple(dict.fromkeys(mark.number for mark in regions if mark is not None))
    images = dict.fromkeys(one.image for one in supports if one.image is not None)
    shown = [pictures[image] for image in images if image in pictures]
    sources = dict.fromkeys(one.source for one in supports if one.source)
    rests = []
    if numbers:
        rests.append(f"region {' and '.join(map(str, numbers))} of the image")
    elif shown:
        rests.append(f"image {' and '.join(map(str, shown))}, without a region")
    if any(image not in pictures for image in images):
        rests.append("an image that is not shown here")
    rests += [SOURCES.get(source, source) for source in sources]
    target = (
        f"region-{numbers[0]}"
        if numbers
        else f"picture-{shown[0]}"
        if shown
        else "findings"
        if "findings" in sources
        else ""
    )
    return Piece(sentence, target, f"Rests on {'; '.join(rests)}" if rests else "", numbers)
