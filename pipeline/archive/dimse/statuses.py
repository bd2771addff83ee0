"""What the final statuses of C-FIND, C-MOVE and C-GET mean (PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4; PS3.7 Annex C)."""

from pipeline.errors import FailStudy, RetryLater, StopRun

PENDING = frozenset({0xFF00, 0xFF01})
SUCCESS = 0x0000
_CANCELLED = 0xFE00
_SOME_FAILED = 0xB000
_TOO_MANY = frozenset({0xA700, 0xA701})
_CANNOT_PERFORM = 0xA702
_DESTINATION_UNKNOWN = 0xA801
_MISMATCH = 0xA900
_UNABLE = 0xC000
"""Cxxx, unable to process: what Orthanc answers for an unknown move destination."""
ENDED_EARLY = "archive-ended-early"
"""The archive ended a retrieval, and may go on with what is left when asked again."""
ENDED_BY_ITSELF = (ENDED_EARLY, "archive-error")
_NOT_AUTHORIZED = 0x0124
_CLASS_UNSUPPORTED = frozenset({0x0122, 0x0112, 0x0118})


def find_was_cut(status: int | None) -> bool:
    """False for success, True where the archive lists no more than it has listed; raises for every other status.

    Beside 0xA700 that is a cancellation that nobody asked for, which is how Orthanc tells that its limit was reached.
    """
    if status == SUCCESS:
        return False
    if status in _TOO_MANY or status == _CANCELLED:
        return True
    raise _refusal(status, "query")


def retrieve_failure(
    status: int | None,
    destination: str = "",
    *,
    refused_here: bool = False,
    unoffered: bool = False,
    reached: bool = False,
) -> RetryLater | StopRun | FailStudy | None:
    """What a final C-MOVE or C-GET status says for the caller; None for success.

    Whether anything really came is another matter. ``destination`` says for a C-MOVE who we are and where we listen;
    ``refused_here`` that something came meanwhile that we refused, ``unoffered`` that for some instances nobody knows
    whether a presentation context was proposed; ``reached`` that the archive has sent to us before, so that it knows
    the destination whatever it says: some answer 0xA801 also when they did not get through this once.
    """
    if status == SUCCESS:
        return None
    if status in _TOO_MANY:
        return RetryLater(
            "archive-busy", f"the archive is out of resources for this retrieval ({_shown(status)})"
        )
    if reached and status == _DESTINATION_UNKNOWN:
        why = f"because it did not get through to {destination} this time, though it did before"
        return RetryLater(ENDED_EARLY, f"the archive ended the retrieval ({_shown(status)}) {why}")
    if status not in (_CANNOT_PERFORM, _SOME_FAILED) and not _is_unable(status):
        return _refusal(status, "retrieval", destination)
    if refused_here:
        why = "after an instance that was refused here"
    elif unoffered:
        why = "for instances whose SOP Class it does not tell, so that no presentation context was proposed"
    elif status in (_CANNOT_PERFORM, _SOME_FAILED):
        reaches = f"it does not reach {destination}, " if destination else ""
        why = f"because it could not send every instance: {reaches}has not the files, or cannot encode them as agreed"
    else:
        return _refusal(status, "retrieval", destination)
    return RetryLater(ENDED_EARLY, f"the archive ended the retrieval ({_shown(status)}) {why}")


def _is_unable(status: int | None) -> bool:
    return status is not None and status & 0xF000 == _UNABLE


def _refusal(status: int | None, what: str, destination: str = "") -> RetryLater | StopRun | FailStudy:
    if status == _DESTINATION_UNKNOWN:
        return StopRun(
            "move-destination-unknown",
            f"the archive does not know our move destination: it must know {destination or 'calling_ae_title'}",
        )
    if status == _NOT_AUTHORIZED or status in _CLASS_UNSUPPORTED:
        return StopRun(
            "archive-refused-service", f"the archive does not allow us this {what} ({_shown(status)})"
        )
    if status == _MISMATCH:
        return FailStudy(
            "archive-refused", f"the archive finds our {what} request inconsistent ({_shown(status)})"
        )
    if status == _CANCELLED:
        return RetryLater("archive-cancelled", f"the archive cancelled the {what}")
    advice = "look into its log"
    if destination and _is_unable(status):
        advice = (
            f"most often it does not know where to send, it must know {destination}; or it cannot send the transfer "
            f"syntax that it stores, which DICOMweb may bring; else {advice}"
        )
    return RetryLater("archive-error", f"the archive ended the {what} with status {_shown(status)}: {advice}")


def _shown(status: int | None) -> str:
    return "none" if status is None else f"0x{status:04X}"
