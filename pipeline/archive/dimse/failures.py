"""What a peer that rejects or cannot be reached means for the caller."""

from pipeline.archive import transport
from pipeline.archive.dimse.pdu import Rejection
from pipeline.errors import RetryLater, StopRun

_SERVICES = {
    "1.2.840.10008.1.1": "Verification (C-ECHO)",
    "1.2.840.10008.5.1.4.1.2.2.1": "Study Root Query (C-FIND)",
    "1.2.840.10008.5.1.4.1.2.2.2": "Study Root Retrieve (C-MOVE)",
    "1.2.840.10008.5.1.4.1.2.2.3": "Study Root Retrieve (C-GET)",
}


def service_refused(abstract_syntax: str) -> StopRun:
    """The archive took no presentation context for a service: which one, and what can be done."""
    name = _SERVICES.get(abstract_syntax, f"the service {abstract_syntax}")
    return StopRun(
        "archive-refused-service",
        f"{name} was not accepted, nor its Patient Root: let the archive offer one of them to our AE title, or use "
        "its DICOMweb"
        if "Root" in name
        else f"{name} was not accepted: let the archive offer it to our AE title",
    )


def rejected(rejection: Rejection, titles: tuple[str, str] = ("", "")) -> RetryLater | StopRun:
    """What an A-ASSOCIATE-RJ means (PS3.8 table 9-21); ``titles`` are the called and the calling AE title."""
    called, calling = titles
    if rejection.result == 2 or rejection.source == 3:
        return RetryLater(
            "archive-busy",
            "the archive rejected the association for now: it has too many, or lower concurrency",
        )
    if rejection.source == 1 and rejection.reason == 7:
        return StopRun("wrong-called-ae", f"the archive does not know itself as {called}: check ae_title")
    if rejection.source == 1 and rejection.reason == 3:
        return StopRun(
            "calling-ae-refused",
            f"the archive does not know us as {calling}: register this calling_ae_title there",
        )
    return StopRun(
        "archive-rejected",
        f"the archive rejected the association (reason {rejection.source}.{rejection.reason})",
    )


def aborted(titles: tuple[str, str]) -> RetryLater:
    """What an A-ABORT means: refusing a stranger in this way is common (Orthanc, at a query)."""
    stranger = (
        f"it may not know the calling AE title {titles[1]}, register it there; or " if titles[1] else ""
    )
    return RetryLater("archive-aborted", f"the archive aborted the association: {stranger}look into its log")


def unreachable(error: OSError) -> RetryLater:
    """What an error of the socket means."""
    return transport.unreachable(error, "check host and port, and that the archive runs")
