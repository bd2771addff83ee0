"""What an error of the transport means for the caller, whatever the protocol above it."""

from pipeline.errors import RetryLater


def unreachable(error: Exception, check: str) -> RetryLater:
    """The error of ours; ``check`` says what to look at where the connection was refused."""
    if isinstance(error, TimeoutError):
        return RetryLater(
            "archive-stalled", "the archive did not answer in time: raise stall_timeout if it is slow"
        )
    if isinstance(error, ConnectionRefusedError):
        return RetryLater("archive-unreachable", f"connection refused: {check}")
    return RetryLater("archive-unreachable", f"the connection failed ({type(error).__name__})")
