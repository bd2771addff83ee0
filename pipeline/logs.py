"""Logging set-up, and the filter that keeps identifiers out of every handler (docs/design.md#patient-data).

A study is named in a log by its ledger id. The filter is the second line of defence: anything shaped like a UID
(PS3.5 section 9), and the password of an address, is masked in the message, in its arguments and in exception text.
"""

import logging
import re
import sys
import warnings
from typing import TextIO

from pipeline.characters import CONTROLS, DIRECTIONS, HALVES, LINE_ENDS, one_of

_UID = re.compile(r"(?<![\w.])[0-2](?:\.\d++){5,}+(?!\.*\w)")
_BREAKS = re.compile(f"[\r\n\x0b\x0c\x85{LINE_ENDS}]+")
_STEERS = one_of(CONTROLS, "\f\r", DIRECTIONS, HALVES)
_WORD = re.compile(r"\S+")
_USER = re.compile(r"[a-z]://[^\s/:@]*+:", re.I)
_SILENT = (
    "prefect.flow_runs",  # tracebacks of errors that we report ourselves
    "prefect.task_runs",
    "pydicom",  # header values
)
_QUIET = (
    "pynetdicom",
    "httpx",
    "httpcore",
    "prefect.events",
    "alembic",
    "onnxscript",
    "onnx_ir",
    "torch.onnx",
    "transformers",
)


class Redact(logging.Formatter):
    """Formats a record and masks what looks like a DICOM UID or a password, exception text included.

    A message is one line, whatever a peer has put into it: nobody writes a second record by an AE title.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The message on one line."""
        return _BREAKS.sub(" ", super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The formatted record without UIDs and passwords."""
        return mask(super().format(record))


def mask(text: str) -> str:
    """``text`` with every DICOM UID replaced by ``[uid]``, and the password of every address by ``***``.

    What steers a terminal or turns the direction of writing becomes a question mark.
    """
    return _WORD.sub(_without_password, _UID.sub("[uid]", _STEERS.sub("?", text)))


def _without_password(word: re.Match[str]) -> str:
    """Each word is looked at once, whatever it holds: from the first address in it to its last at-sign."""
    text, user = word[0], None
    last = text.rfind("@")
    if last > 0:
        user = _USER.search(text, 0, last)
    return f"{text[: user.end()]}***{text[last:]}" if user else text


def configure(verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send our log to ``stream`` (standard error) as one masked line a record, and quieten what others print."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Redact("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR if not verbose else logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    if not verbose:
        warnings.simplefilter("ignore")
    warnings.filterwarnings("ignore", module=r"pydicom")  # they quote header values
