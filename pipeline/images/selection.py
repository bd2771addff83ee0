"""Every instance of a study judged beside the others: rejected ones, and the renderings of one exposure."""

from collections.abc import Sequence

from pipeline.images import wording
from pipeline.images.choose import PROCESSED, Candidate, Reason, judge
from pipeline.images.headers import Header, text, texts
from pipeline.images.rejection import rejected
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.study import LeftOutReason

_RENDERED_BY = (
    "SeriesDescription", "AcquisitionDeviceProcessingDescription", "DerivationDescription", "ImageComments",
    "ProtocolName", "ContentDescription", "ContentLabel",
)  # fmt: skip


def judge_all(
    headers: Sequence[Header], *, laterals: bool = False, trust: SiteTrust = HEADERS_ALONE
) -> list[tuple[Header, Candidate | Reason]]:
    """Each instance with its verdict, in order.

    A picture of bone or soft tissue made from an exposure (dual energy) never speaks for it, whichever field says so,
    where the study holds an ordinary film of the same view.
    """
    out = rejected(headers)
    verdicts: list[tuple[Header, Candidate | Reason]] = []
    for header in headers:
        why = out.get(text(header.dataset, "SOPInstanceUID"))
        verdicts.append(
            (
                header,
                Reason(LeftOutReason.REJECTED, why) if why else judge(header, laterals=laterals, trust=trust),
            )
        )
    ordinary = {
        verdict.lateral
        for header, verdict in verdicts
        if isinstance(verdict, Candidate) and not _one_tissue(header)
    }
    return [
        (header, PROCESSED)
        if isinstance(verdict, Candidate) and verdict.lateral in ordinary and _one_tissue(header)
        else (header, verdict)
        for header, verdict in verdicts
    ]


def _one_tissue(header: Header) -> bool:
    said = [text(header.dataset, keyword) for keyword in _RENDERED_BY]
    return any(map(wording.is_of_one_tissue, (*said, *texts(header.dataset, "ImageType")[2:])))
