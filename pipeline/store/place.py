"""Where a page ended: opaque tokens of time and id, of one order each."""

import re
from datetime import UTC, datetime

_TOKEN = re.compile(
    r"(?P<kind>[a-z]{2})\.(?:(?P<seconds>-?[0-9a-f]{1,12})\.(?P<micro>[0-9a-f]{1,5})|-)\.(?P<id>[^\x00]+)"
)


def token_of(kind: str, instant: datetime | None, resource_id: str) -> str:
    """The token of a row of the order ``kind``; ``instant`` is None for one that is undated."""
    when = (
        "-"
        if instant is None
        else f"{int(instant.replace(microsecond=0).timestamp()):x}.{instant.microsecond:x}"
    )
    return f"{kind}.{when}.{resource_id}"


def place_of(kind: str, token: str) -> tuple[datetime | None, str]:
    """Time and id of the row that ``token`` names. Raises ValueError for one not written for ``kind``."""
    match = _TOKEN.fullmatch(token)
    if match is None or match["kind"] != kind:
        raise ValueError("not a page token")
    if match["seconds"] is None:
        return None, match["id"]
    try:
        instant = datetime.fromtimestamp(int(match["seconds"], 16), UTC)
    except (OverflowError, OSError):
        raise ValueError("not a page token") from None
    return instant.replace(microsecond=int(match["micro"], 16)), match["id"]
