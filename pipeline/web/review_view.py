"""What the review page shows of one report, worked out before the template: numbers, labels, boxes."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ledger import Preview
from pipeline.lookup import ReportDetail
from pipeline.report import CheckOutcome, Finding, Region, Verdict

STATUS_MEANING = {
    "registered": "seen, no draft yet",
    "partial": "draft, unverified",
    "preliminary": "draft, early result",
    "final": "signed by a radiologist",
    "amended": "changed after signing",
    "corrected": "corrected after signing",
    "appended": "added to after signing",
    "cancelled": "cancelled",
    "entered-in-error": "withdrawn",
}
"""What a status means to the reader (R4 code system diagnostic-report-status)."""


@dataclass(frozen=True, slots=True)
class Box:
    """A numbered region, in pixels of the original image."""

    number: int
    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A preview with the boxes that lie on it. ``columns`` and ``rows`` are those of the original image."""

    source: str
    columns: int
    rows: int
    boxes: tuple[Box, ...]
    alternative: str


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One discrete finding as the table shows it; ``number`` is that of its box, or None."""

    number: int | None
    name: str
    present: bool
    place: str
    severity: str
    confidence: str
    meter: float | None


@dataclass(frozen=True, slots=True)
class ReviewView:
    """Everything the template needs beside the detail itself."""

    pictures: tuple[Picture, ...]
    stated: tuple[FindingLine, ...]
    denied: tuple[FindingLine, ...]
    concerns: tuple[CheckOutcome, ...]
    passed: tuple[CheckOutcome, ...]
    unseen: int
    probabilities: tuple[tuple[str, float], ...]


def review_view(detail: ReportDetail) -> ReviewView:
    """Number the regions in the order of the findings and sort everything for reading."""
    numbered: dict[int, int] = {}
    for index, finding in enumerate(detail.draft.findings):
        if finding.region is not None and finding.present:
            numbered[index] = len(numbered) + 1
    lines = [_line(finding, numbered.get(index)) for index, finding in enumerate(detail.draft.findings)]
    boxes = [
        (finding.region, _box(finding, finding.region, numbered[index]))
        for index, finding in enumerate(detail.draft.findings)
        if index in numbered and finding.region is not None
    ]
    pictures = tuple(_picture(preview, boxes, len(detail.previews)) for preview in detail.previews)
    return ReviewView(
        pictures=pictures,
        stated=tuple(line for line in lines if line.present),
        denied=tuple(line for line in lines if not line.present),
        concerns=tuple(check for check in detail.checks if check.verdict is not Verdict.PASSED),
        passed=tuple(check for check in detail.checks if check.verdict is Verdict.PASSED),
        unseen=len(boxes) - sum(len(picture.boxes) for picture in pictures),
        probabilities=tuple((_name(kind), p) for kind, p in sorted(detail.draft.probabilities.items())),
    )


def _picture(preview: Preview, boxes: Sequence[tuple[Region, Box]], count: int) -> Picture:
    encoded = base64.b64encode(preview.jpeg).decode("ascii")
    here = tuple(box for region, box in boxes if (region.ref, region.frame) == (preview.ref, preview.frame))
    marked = ", ".join(f"{box.number} {box.label}" for box in here) or "none"
    return Picture(
        source=f"data:image/jpeg;base64,{encoded}",
        columns=preview.original_columns,
        rows=preview.original_rows,
        boxes=here,
        alternative=f"Image that the model saw, one of {count}. Marked regions: {marked}.",
    )


def _box(finding: Finding, region: Region, number: int) -> Box:
    label = " ".join(
        part for part in (finding.side.value if finding.side else "", _name(finding.kind)) if part
    )
    return Box(number, label, region.x0, region.y0, region.x1 - region.x0, region.y1 - region.y0)


def _line(finding: Finding, number: int | None) -> FindingLine:
    side = finding.side.value if finding.side else ""
    zone = f"{finding.zone} zone" if finding.zone else ""
    return FindingLine(
        number=number,
        name=_name(finding.kind),
        present=finding.present,
        place=" ".join(part for part in (side, zone) if part),
        severity=finding.severity,
        confidence="" if finding.confidence is None else f"{finding.confidence:.2f}",
        meter=finding.confidence,
    )


def _name(kind: str) -> str:
    return kind.replace("_", " ")
