"""Every instance of a study judged beside the others: rejected ones, and the renderings of one exposure."""

from collections import Counter
from collections.abc import Sequence

from pipeline.images import wording
from pipeline.images.choose import PROCESSED, Candidate, Reason, judge
from pipeline.images.headers import Header, items, text, texts
from pipeline.images.rejection import rejected
from pipeline.images.trust import HEADERS_ALONE, SiteTrust
from pipeline.study import LeftOutReason

_RENDERED_BY = (
    "SeriesDescription", "AcquisitionDeviceProcessingDescription", "DerivationDescription", "ImageComments",
    "ProtocolName", "ContentDescription", "ContentLabel", "AcquisitionDeviceProcessingCode", "AcquisitionProtocolName",
    "PerformedProcedureStepDescription", "AcquisitionProtocolDescription",
)  # fmt: skip


def judge_all(
    headers: Sequence[Header], *, laterals: bool = False, trust: SiteTrust = HEADERS_ALONE
) -> list[tuple[Header, Candidate | Reason]]:
    """Each instance with its verdict, in order.

    A picture of bone or soft tissue made from an exposure (dual energy) never speaks for it, whichever field says so:
    not beside an ordinary film of the same view, be that a rejected one, and not beside the exposure's other part.
    """
    judged = [(header, judge(header, laterals=laterals, trust=trust)) for header in headers]
    films = [(verdict, _one_tissue(header)) for header, verdict in judged if isinstance(verdict, Candidate)]
    ordinary = {film.lateral for film, one_tissue in films if not one_tissue}
    parts = Counter(film.exposure for film, one_tissue in films if one_tissue)
    out = rejected(headers)

    def verdict_of(header: Header, alone: Candidate | Reason) -> Candidate | Reason:
        why = out.get(text(header.dataset, "SOPInstanceUID"))
        if why:
            return Reason(LeftOutReason.REJECTED, why)
        if isinstance(alone, Candidate) and _one_tissue(header):
            return (
                PROCESSED
                if alone.lateral in ordinary or (alone.exposure and parts[alone.exposure] > 1)
                else alone
            )
        return alone

    return [(header, verdict_of(header, alone)) for header, alone in judged]


def _one_tissue(header: Header) -> bool:
    said = [text(header.dataset, keyword) for keyword in _RENDERED_BY]
    said += texts(header.dataset, "ImageType")[2:]
    said += [text(item, "CodeMeaning") for item in items(header.dataset, "DerivationCodeSequence")]
    return any(map(wording.is_of_one_tissue, said))
