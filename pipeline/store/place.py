"""Where a page ended: opaque tokens of times and id, of one order each."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

_TIME: Final = r"(?:-?[0-9a-f]{1,12}\.[0-9a-f]{1,5}|-)"
Place = tuple[tuple[datetime | None, ...], str]


def token_of(kind: str, instants: Sequence[datetime | None], resource_id: str) -> str:
    """The token of a row of the order ``kind``; an instant is None where the row is undated."""
    return ".".join((kind, *map(_written, instants), resource_id))


def place_of(kind: str, token: str, times: int = 1) -> Place:
    """The ``times`` instants and the id of the row that ``token`` names.

    Raises ValueError for a token not written for ``kind``.
    """
    match = re.fullmatch(rf"(?P<kind>[a-z]+)\.(?P<times>(?:{_TIME}\.){{{times}}})(?P<id>[^\x00]+)", token)
    if match is None or match["kind"] != kind:
        raise ValueError("not a page token")
    return tuple(map(_read, re.findall(_TIME, match["times"]))), match["id"]


def _written(instant: datetime | None) -> str:
    if instant is None:
        return "-"
    return f"{int(instant.replace(microsecond=0).timestamp()):x}.{instant.microsecond:x}"


def _read(written: str) -> datetime | None:
    if written == "-":
        return None
    seconds, _, micro = written.partition(".")
    try:
        instant = datetime.fromtimestamp(int(seconds, 16), UTC)
    except (OverflowError, OSError):
        raise ValueError("not a page token") from None
    return instant.replace(microsecond=int(micro, 16))
