"""The numbered marks on the pictures: regions of findings first, then what the answers place, each drawn once."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.report import DraftReport, Extent, Finding, Place, Point, Region
from pipeline.web.naming import key_as_words


@dataclass(frozen=True, slots=True)
class Mark:
    """A numbered region, or a point (width and height 0), in pixels of the original image.

    ``kind`` is "finding" or "answer".
    """

    number: int
    label: str
    kind: str
    x: float
    y: float
    width: float = 0.0
    height: float = 0.0

    @property
    def is_point(self) -> bool:
        """Whether it is a point."""
        return not (self.width or self.height)


class Marks:
    """Gives out the numbers. The same place asked for again keeps its number."""

    def __init__(self, draft: DraftReport) -> None:
        """Number what the findings, the answers and the supports of ``draft`` place, in this order."""
        self._numbered: dict[tuple[Region | Point | Extent, str], Mark] = {}
        for finding in draft.findings:
            if finding.region is not None and finding.present:
                self._add(finding.region, finding_label(finding), "finding")
        for answer in draft.answers:
            for place in answer.places:
                if (where := place.region or place.point or place.extent) is not None:
                    self._add(where, place.name, "answer")
        for support in draft.supports:
            if support.region is not None and self.of_region(support.region) is None:
                self._add(support.region, "", "finding")

    def _add(self, where: Region | Point | Extent, label: str, kind: str) -> None:
        if (where, label) in self._numbered:
            return
        number = len(self._numbered) + 1
        if isinstance(where, Point):
            mark = Mark(number, label, kind, where.x, where.y)
        else:
            mark = Mark(number, label, kind, where.x0, where.y0, where.x1 - where.x0, where.y1 - where.y0)
        self._numbered[where, label] = mark

    def of_finding(self, finding: Finding) -> Mark | None:
        """The mark of a finding."""
        return self._numbered.get((finding.region, finding_label(finding))) if finding.region else None

    def of_place(self, place: Place) -> Mark | None:
        """The mark of a place of an answer."""
        where = place.region or place.point or place.extent
        return self._numbered.get((where, place.name)) if where else None

    def of_region(self, region: Region) -> Mark | None:
        """The first mark of a region, whatever it is called."""
        return next((mark for (where, _), mark in self._numbered.items() if where == region), None)

    def placed(self) -> Iterable[tuple[Region | Point, Mark]]:
        """Every mark with each place it lies at, in the order of the numbers; an extent lies on each of its planes."""
        for (where, _), mark in self._numbered.items():
            for one in where.on_planes() if isinstance(where, Extent) else (where,):
                yield one, mark


def finding_label(finding: Finding) -> str:
    """A finding as a mark is called: side and kind."""
    side = finding.side.value if finding.side else ""
    return " ".join(part for part in (side, key_as_words(finding.kind)) if part)
