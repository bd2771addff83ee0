"""The associations that we propose to an archive, and their presentation contexts (PS3.8 section 9.3.2.2)."""

from collections.abc import Iterable, Sequence

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.information_model import COMMON_CLASSES, GET, MAY_BE_VIDEO, STORAGE_CLASSES
from pipeline.archive.dimse.negotiation import PLAIN_SYNTAXES, TRANSFER_SYNTAXES, VIDEO_SYNTAXES
from pipeline.archive.dimse.pdu import MOST_CONTEXTS, Associate, PresentationContext
from pipeline.setting_archives import DimseArchive


def associate(
    settings: DimseArchive, contexts: tuple[PresentationContext, ...], storage_roles: tuple[str, ...] = ()
) -> Association:
    """An association that proposes these contexts, and to be the SCP of these storage classes."""
    return Association.request(
        (settings.host, settings.port),
        Associate(settings.ae_title, settings.calling_ae_title, contexts, storage_roles=storage_roles),
        connect_timeout=settings.connect_timeout,
        stall_timeout=settings.stall_timeout,
    )


def plain_contexts(abstract_syntaxes: Iterable[str]) -> tuple[PresentationContext, ...]:
    """A context for each service, in the two plain encodings."""
    return tuple(
        PresentationContext(2 * index + 1, uid, PLAIN_SYNTAXES) for index, uid in enumerate(abstract_syntaxes)
    )


def get_proposals(sop_class_uids: Sequence[str]) -> tuple[tuple[PresentationContext, ...], ...]:
    """What is proposed to a C-GET, and what then for instances that did not come.

    Where every class is told, each with its transfer syntaxes one by one, so that each instance is sent as it is
    stored, over as many associations as that takes; where one is not, every class that films lie beside, each in one
    context, first. At most 128 contexts (PS3.8 section 9.3.2.2).
    """
    told = tuple(dict.fromkeys(uid for uid in sop_class_uids if uid))
    if told and all(sop_class_uids):
        return *as_stored(told), _every_class(told)
    return _every_class(told), as_stored((*told, *COMMON_CLASSES))[0]


def as_stored(sop_class_uids: Iterable[str]) -> tuple[tuple[PresentationContext, ...], ...]:
    """The C-GET contexts, then one context per SOP class and transfer syntax: in each part as many as fit.

    Of more than one part the first has the syntaxes that most is stored in, the last those of video.
    """
    classes = list(dict.fromkeys(sop_class_uids))
    pairs: list[tuple[str, tuple[str, ...]]] = [
        (sop_class, (syntax,))
        for sop_class in classes
        for syntax in (*TRANSFER_SYNTAXES, *(VIDEO_SYNTAXES if sop_class in MAY_BE_VIDEO else ()))
    ]
    fit = MOST_CONTEXTS - len(GET)
    if len(pairs) > fit:
        order = {syntax: place for place, syntax in enumerate((*TRANSFER_SYNTAXES, *VIDEO_SYNTAXES))}
        pairs.sort(key=lambda pair: order[pair[1][0]])
    return tuple(_numbered(pairs[start : start + fit]) for start in range(0, len(pairs), fit))


def _every_class(first: tuple[str, ...]) -> tuple[PresentationContext, ...]:
    """The C-GET contexts, then one for each storage class, in any transfer syntax that we can decode."""
    return _numbered(
        [(sop_class, TRANSFER_SYNTAXES) for sop_class in dict.fromkeys((*first, *STORAGE_CLASSES))]
    )


def _numbered(pairs: list[tuple[str, tuple[str, ...]]]) -> tuple[PresentationContext, ...]:
    services = plain_contexts(GET)
    return (
        *services,
        *(
            PresentationContext(2 * (index + len(services)) + 1, sop_class, syntaxes)
            for index, (sop_class, syntaxes) in enumerate(pairs[: MOST_CONTEXTS - len(services)])
        ),
    )
