"""Who may stay connected to our Storage SCP when places run out: pure decisions over the callers there are.

An idle caller is sent away before a new one is refused, from the peer that holds most, the longest idle first. One
calling AE title, and one address, never holds every place.
"""

import resource
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

_MOST_ASSOCIATIONS = 64
_MOST_WAITING = 256
_DESCRIPTORS_KEPT = 48
"""For the database, logs, libraries and the files of others in this process."""
_DESCRIPTORS_OF_AN_ASSOCIATION = 2


@dataclass(frozen=True, slots=True)
class CallerPlaces:
    """How many at the same time; times are in seconds.

    ``waiting`` are connections that have not asked for an association yet; they have ``request_seconds`` to do it,
    those of an address that associated before ``known_seconds``. ``idle_seconds`` without a byte make a caller one that
    may be sent away for another, who waits ``patience_seconds`` for a place before it is refused.
    """

    associations: int = _MOST_ASSOCIATIONS
    waiting: int = _MOST_WAITING
    request_seconds: float = 5.0
    known_seconds: float = 30.0
    idle_seconds: float = 0.5
    patience_seconds: float = 1.0

    @property
    def of_one_address(self) -> int:
        """The most associations of one address."""
        return max(1, self.associations * 7 // 8)

    @property
    def of_one_title(self) -> int:
        """The most associations of one calling AE title at one address."""
        return max(1, self.associations * 3 // 4)


class Standing(Protocol):
    """What is known of a caller."""

    @property
    def address(self) -> str: ...
    @property
    def calling(self) -> str: ...
    @property
    def since(self) -> float: ...
    @property
    def heard_at(self) -> float: ...
    @property
    def may_leave(self) -> bool:
        """False while it waits for our answer."""
        ...


Caller = TypeVar("Caller", bound=Standing)


def places_by_descriptors() -> CallerPlaces:
    """As many places as this process has file descriptors for; the soft limit is raised towards the hard one first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS_KEPT + _DESCRIPTORS_OF_AN_ASSOCIATION * _MOST_ASSOCIATIONS + 2 * _MOST_WAITING
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with suppress(ValueError, OSError):  # what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    spare = wanted if soft == resource.RLIM_INFINITY else max(0, soft - _DESCRIPTORS_KEPT)
    share = spare // (2 * _DESCRIPTORS_OF_AN_ASSOCIATION)
    return CallerPlaces(min(_MOST_ASSOCIATIONS, max(4, share)), min(_MOST_WAITING, max(8, share)))


def first_to_leave(callers: Collection[Caller], idle_before: float) -> Caller | None:
    """The longest idle caller of the address, and there of the title, that holds most; None where all are at work."""
    idle = [one for one in callers if one.may_leave and one.heard_at <= idle_before]
    return min(_largest(_largest(idle, _address), _title), key=lambda one: one.heard_at, default=None)


def silent_to_leave(waiting: Collection[Caller]) -> Caller | None:
    """The connection that has waited longest without a request, of the address that has most of them."""
    return min(_largest(list(waiting), _address), key=lambda one: one.since, default=None)


def admits(
    callers: Collection[Caller], caller: Caller, places: CallerPlaces, idle_before: float
) -> Caller | bool:
    """Whether ``caller`` may associate beside ``callers``: True, False, or who has to leave for it."""
    same_address = [one for one in callers if one.address == caller.address]
    same_title = [one for one in same_address if one.calling == caller.calling]
    for some, most in (
        (same_title, places.of_one_title),
        (same_address, places.of_one_address),
        (list(callers), places.associations),
    ):
        if len(some) >= most:
            return first_to_leave(some, idle_before) or False
    return True


def _address(one: Standing) -> Hashable:
    return one.address


def _title(one: Standing) -> Hashable:
    return (one.address, one.calling)


def _largest(callers: list[Caller], group: Callable[[Standing], Hashable]) -> list[Caller]:
    counts = Counter(map(group, callers))
    most = max(counts.values(), default=0)
    return [one for one in callers if counts[group(one)] == most]
