"""Errors, named for what the caller does next.

    FirstreadError
      SkipStudy     not for us (no chest radiograph, excluded): record the reason, go on
      RetryLater    may get better (archive busy, association lost, study still arriving): try again, bounded
        LostClaim   somebody else works on this study now: drop it
      FailStudy     will not get better by itself (cannot decode, draft refused): a person has to look
      StopRun       the run itself is unsound (weights, engine, schema, disk): end it
        ConfigurationError   the run was asked for wrongly: exit code 2

Every error carries ``code``, a short stable word for tables and metrics, and a message for people.
Neither may hold patient data: they reach logs, the ledger and Prefect (docs/design.md#patient-data).
"""

from typing import Any


class FirstreadError(Exception):
    """Root of the tree; never raised itself."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, as Prefect does with the result of what failed, it comes back whole."""
        return _restored, (type(self), dict(vars(self)))


class SkipStudy(FirstreadError):
    """The study is not for this model or this site; the reason is recorded and the batch goes on."""


class RetryLater(FirstreadError):
    """The same attempt may succeed later.

    ``after_seconds`` is what the other side asked for (Retry-After), or None for the caller's own back-off.
    """

    def __init__(self, code: str, message: str, *, after_seconds: float | None = None) -> None:
        super().__init__(code, message)
        self.after_seconds = after_seconds


class LostClaim(RetryLater):
    """A newer claim of the same study exists; what this one brought is dropped, the newer one stores its own."""


class FailStudy(FirstreadError):
    """The study cannot be drafted as it is; a person has to look at it."""


class StopRun(FirstreadError):
    """Nothing sensible can be done for any study; the run ends."""


class ConfigurationError(StopRun):
    """What was asked or configured cannot be; the message says which setting to change."""


def _restored(kind: type[FirstreadError], values: dict[str, Any]) -> FirstreadError:
    error = kind.__new__(kind, values["message"])
    vars(error).update(values)
    return error
