"""Pages of searches that came by POST: their links must name nobody, so the search is kept here under a number.

R4 section 3.1.1.1 has POST for searches whose parameters should not stand in URLs, which proxies and browsers keep.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

Parameters = tuple[tuple[str, str], ...]

PREFIX: Final = "posted."
MOST_KEPT: Final = 2048
"""Following pages that are kept; the one that was not asked for longest is forgotten first."""
_NAME_NOBODY: Final = frozenset(
    {"status", "code", "category", "modality", "date", "started", "recorded", "issued"}
)


class PostedPages:
    """The following pages of this process; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, Parameters]] = OrderedDict()

    def keep(self, resource_type: str, parameters: Parameters) -> str:
        """A token for the page that ``parameters`` (with its _page) ask for."""
        token = PREFIX + secrets.token_urlsafe(16)
        with self._lock:
            self._kept[token] = (resource_type, parameters)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return token

    def find(self, resource_type: str, token: str) -> Parameters | None:
        """The parameters that ``token`` was given for; None for one that is not known, or of another type."""
        with self._lock:
            kept = self._kept.get(token)
            if kept is None or kept[0] != resource_type:
                return None
            self._kept.move_to_end(token)
            return kept[1]


def nameless(parameters: Sequence[tuple[str, str]]) -> Parameters:
    """Those of ``parameters`` that can stand in a URL: they say how much, in which order, or name a kind of thing."""
    return tuple((name, value) for name, value in parameters if _names_nobody(name.partition(":")[0]))


def _names_nobody(parameter: str) -> bool:
    return parameter in _NAME_NOBODY or (parameter.startswith("_") and parameter not in ("_id", "_page"))
