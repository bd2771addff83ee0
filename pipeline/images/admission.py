"""What of a study a model may see, by what it declares, and the refusal in words where that is nothing.

A refusal names what the study is and what is read, by the first clause that fails of the declaration that is nearest:
kind, modality, body part, view.
"""

from collections.abc import Iterable, Sequence

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images.headers import Elements, Header, text
from pipeline.images.instance_identity import InstanceIdentity, identify
from pipeline.images.kinds import kind_of, modality_of
from pipeline.study import LeftOutReason

_MOST_LOOKED_AT = 64
_IN_WORDS = frozenset(
    {
        LeftOutReason.LATERAL_VIEW, LeftOutReason.OTHER_VIEW, LeftOutReason.NOT_CHEST, LeftOutReason.SECONDARY_CAPTURE,
        LeftOutReason.NOT_RADIOGRAPH,
    }
)  # fmt: skip
"""Reasons for which no film is used that what the instance is says best."""
_NO_FILM = frozenset({*_IN_WORDS, LeftOutReason.BODY_PART_UNKNOWN, LeftOutReason.SITE_RULE})


def accepting(dataset: Elements, accepts: Sequence[Accepts]) -> Accepts | None:
    """The declaration that takes the instance, by its header; None where there is none."""
    kind = kind_of(dataset)
    near = [one for one in accepts if one.kind is kind]
    modality = modality_of(dataset) if near else ""
    identity: InstanceIdentity | None = None
    for one in near:
        if one.modalities and modality not in one.modalities:
            continue
        if not one.body_parts and not one.views:  # most of what is asked: no more of the header needs reading
            return one
        identity = identity or identify(dataset)
        if _failing(identity, one) is None:
            return one
    return None


def refusal(headers: Iterable[Header], reader: StudyReader, reason: SkipStudy) -> SkipStudy:
    """Why nothing of a study is read: ``reason`` in the words of what the study is and what is read."""
    looked_at = list(_series(headers))
    found = [identity for identity in looked_at if identity.kind is not Kind.RESULT]
    if reason.code not in _NO_FILM or not looked_at:
        return reason
    if not found:
        return SkipStudy(reason.code, f"{looked_at[0]} and no image; {reader.reads}")
    failing = [
        (*failed, identity)
        for identity in found
        for one in reader.accepts
        if (failed := _failing(identity, one)) is not None
    ]
    depth, code, identity = max(failing, key=lambda one: one[0], default=(0, "", found[0]))
    if depth:
        return SkipStudy(code, f"{identity}; {reader.reads}")
    return SkipStudy(reason.code, f"{identity}; {reader.reads}") if reason.code in _IN_WORDS else reason


def _failing(identity: InstanceIdentity, one: Accepts) -> tuple[int, str] | None:
    """The first clause that fails, as its depth and code; None where all hold."""
    if identity.kind is not one.kind:
        return 0, LeftOutReason.NOT_RADIOGRAPH
    if one.modalities and identity.modality not in one.modalities:
        return 1, LeftOutReason.NOT_ACCEPTED
    if one.body_parts and identity.part is None and not one.unknown_body_part:
        return 2, LeftOutReason.BODY_PART_UNKNOWN
    if one.body_parts and identity.part and not any(map(identity.part.part.covers, one.body_parts)):
        return 2, LeftOutReason.NOT_ACCEPTED_BODY_PART
    if one.views and identity.view not in one.views and not (one.unknown_view and not identity.view):
        return 3, LeftOutReason.NOT_ACCEPTED_VIEW
    return None


def _series(headers: Iterable[Header]) -> Iterable[InstanceIdentity]:
    """What the study holds, one instance of each series and class."""
    seen: set[tuple[str, str]] = set()
    for header in headers:
        key = text(header.dataset, "SeriesInstanceUID"), text(header.dataset, "SOPClassUID")
        if key not in seen and len(seen) < _MOST_LOOKED_AT:
            seen.add(key)
            yield identify(header.dataset)
