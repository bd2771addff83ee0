"""What the review page shows of one report, worked out before the template: numbers, labels, marks."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from pipeline.ledger import Preview
from pipeline.lookup import ReportDetail
from pipeline.report import CheckOutcome, Finding, Language, Point, PriorStudy, Region, Verdict
from pipeline.web.answers_view import AnswerView, answer_view
from pipeline.web.differences import Difference, differences
from pipeline.web.marks import Mark, Marks
from pipeline.web.naming import HEADINGS, Names, key_as_words, place_of, severity_of
from pipeline.web.sentences import Piece, pieces

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
class Picture:
    """A preview with the marks that lie on it. ``columns`` and ``rows`` are those of the original image."""

    number: int
    source: str
    columns: int
    rows: int
    marks: tuple[Mark, ...]
    alternative: str
    overlay: str
    caption: str = ""


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
    """Everything the template needs beside the detail itself; ``compared`` names the earlier study, or is ""."""

    pictures: tuple[Picture, ...]
    findings: tuple[Piece, ...]
    impression: tuple[Piece, ...]
    answers: tuple[AnswerView, ...]
    compared: str
    stated: tuple[FindingLine, ...]
    denied: tuple[FindingLine, ...]
    concerns: tuple[CheckOutcome, ...]
    passed: tuple[CheckOutcome, ...]
    unseen: int
    probabilities: tuple[tuple[str, float], ...]
    headings: tuple[str, str, str, str, str]
    differences: tuple[Difference, ...]
    earlier: tuple[Picture, ...]
    viewer: str


def review_view(detail: ReportDetail, names: Names = key_as_words, viewer_url: str = "") -> ReviewView:
    """Number the marks and sort everything for reading.

    ``names`` call a kind of finding in the draft's language. In ``viewer_url`` "{study}" stands for the Study Instance
    UID, "" for no viewer.
    """
    draft, marks = detail.draft, Marks(detail.draft)
    lines = [_line(finding, marks.of_finding(finding), names, draft.language) for finding in draft.findings]
    placed = list(marks.placed())
    words = {(one.ref, one.frame): one.words for one in draft.captions}
    pictures = tuple(
        _picture(number, preview, placed, len(detail.previews), words.get((preview.ref, preview.frame), ""))
        for number, preview in enumerate(detail.previews, 1)
    )
    numbers = {preview.ref: number for number, preview in enumerate(detail.previews, 1)}
    return ReviewView(
        pictures=pictures,
        findings=pieces("findings", draft.findings_text, draft.supports, marks, numbers),
        impression=pieces("impression", draft.impression_text, draft.supports, marks, numbers),
        answers=tuple(answer_view(answer, marks) for answer in draft.answers),
        compared=_compared(draft.prior),
        stated=tuple(line for line in lines if line.present),
        denied=tuple(line for line in lines if not line.present),
        concerns=tuple(check for check in detail.checks if check.verdict is not Verdict.PASSED),
        passed=tuple(check for check in detail.checks if check.verdict is Verdict.PASSED),
        unseen=len({mark.number for _, mark in placed})
        - len({mark.number for picture in pictures for mark in picture.marks}),
        probabilities=tuple(
            (names(kind, draft.language), p) for kind, p in sorted(draft.probabilities.items())
        ),
        headings=HEADINGS[draft.language],
        differences=differences(detail.versions),
        earlier=_earlier(detail),
        viewer=viewer_url.replace("{study}", quote(detail.row.study_instance_uid, safe="")),
    )


def _earlier(detail: ReportDetail) -> tuple[Picture, ...]:
    previews = detail.earlier.previews if detail.earlier else ()
    return tuple(
        replace(_picture(number, preview, (), len(previews)), alternative="Image of the earlier study.")
        for number, preview in enumerate(previews, 1)
    )


def _compared(prior: PriorStudy | None) -> str:
    if prior is None:
        return ""
    return (
        f"study of {prior.study_date.isoformat()}" if prior.study_date else "an earlier study without a date"
    )


def _picture(
    number: int,
    preview: Preview,
    placed: Sequence[tuple[Region | Point, Mark]],
    count: int,
    caption: str = "",
) -> Picture:
    encoded = base64.b64encode(preview.jpeg).decode("ascii")
    here = tuple(mark for at, mark in placed if (at.ref, at.frame) == (preview.ref, preview.frame))
    marked = ", ".join(f"{mark.number} {mark.label}" for mark in here) or "none"
    return Picture(
        number=number,
        source=f"data:image/jpeg;base64,{encoded}",
        columns=preview.original_columns,
        rows=preview.original_rows,
        marks=here,
        alternative=f"Image that the model saw, one of {count}{f': {caption}' if caption else ''}. "
        f"Marked regions: {marked}.",
        overlay=f"data:image/png;base64,{base64.b64encode(preview.overlay).decode('ascii')}"
        if preview.overlay
        else "",
        caption=caption,
    )


def _line(finding: Finding, mark: Mark | None, names: Names, language: Language) -> FindingLine:
    return FindingLine(
        number=mark.number if mark and finding.present else None,
        name=names(finding.kind, language),
        present=finding.present,
        place=place_of(finding, language),
        severity=severity_of(finding, language),
        confidence="" if finding.confidence is None else f"{finding.confidence:.2f}",
        meter=finding.confidence,
    )
