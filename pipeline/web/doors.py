"""Who came to the door: sign-ins and sign-outs for the audit, refusals counted, and guesses slowed down.

A wrong token is answered later and later to its address, one after another; the right one is never made to wait,
whoever else guesses from there. An event of refusals is written at the first one of an address and then with their
number at intervals: a stranger cannot fill the audit.
"""

import asyncio
import ipaddress
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.concurrency import run_in_threadpool

from pipeline.errors import FirstreadError
from pipeline.web.reader import Audit, Clock, DoorEvent, DoorKind

log = logging.getLogger(__name__)

FREE_TRIES: Final = 3
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 1.0
LONGEST_WAIT: Final = 30.0
"""Wrong tokens of one address that come at the same time are answered one after another, none later than this."""
FORGOTTEN_SECONDS: Final = 900.0
"""How long an address has to keep quiet before its wrong tokens are forgotten."""
TELL_SECONDS: Final = 60.0
MOST_ADDRESSES: Final = 1000
OTHERS: Final = "others"


@dataclass(slots=True)
class _Caller:
    """What one address did: wrong tokens in a row, when the last came and the next is answered; what is not told."""

    wrong: int = 0
    last: float = 0.0
    free: float = 0.0
    untold: Counter[DoorKind] = field(default_factory=Counter)
    told: dict[DoorKind, float] = field(default_factory=dict)


class Doors:
    """The memory of one application; thread-safe."""

    def __init__(self, audit: Audit, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._monotonic = monotonic
        self._callers: dict[str, _Caller] = {}  # the longest quiet first
        self._others: Counter[DoorKind] = Counter()
        self._lock = threading.Lock()

    async def refuse(self, address: str, kind: DoorKind) -> None:
        """Count a refusal and tell the audit where it is due; after a wrong token, return only after the delay."""
        key = _group(address)
        with self._lock:
            caller = self._caller(key)
            caller.untold[kind] += 1
            due = self._due(caller, kind)
            delay = 0.0 if kind is DoorKind.FOREIGN_PEER else self._delay(caller)
        if due:
            await run_in_threadpool(self._tell, key, kind)
        await asyncio.sleep(delay)

    def passed(self, address: str, kind: DoorKind) -> None:
        """Tell of a sign-in or sign-out, before it is answered; raises what the audit raises."""
        with self._lock:
            if kind is DoorKind.SIGNED_IN:
                self._caller(_group(address)).wrong = 0
        self._audit([DoorEvent(kind, address, 1, self._clock())])

    def flush(self) -> None:
        """Tell what is not told yet, of every address."""
        with self._lock:
            waiting = [(key, kind) for key, one in self._callers.items() for kind in one.untold]
            waiting += [(OTHERS, kind) for kind in self._others]
        for key, kind in waiting:
            self._tell(key, kind)

    def _caller(self, key: str) -> _Caller:
        """The memory of an address; of a thousand, the longest quiet one goes, and its count to others."""
        caller = self._callers.pop(key, None) or _Caller()
        self._callers[key] = caller
        if len(self._callers) > MOST_ADDRESSES:
            gone = self._callers.pop(next(iter(self._callers)))
            self._others.update(gone.untold)
        return caller

    def _delay(self, caller: _Caller) -> float:
        now = self._monotonic()
        caller.wrong = caller.wrong + 1 if now - caller.last < FORGOTTEN_SECONDS else 1
        caller.last = now
        beyond = caller.wrong - FREE_TRIES
        delay = 0.0 if beyond <= 0 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(beyond - 1, 16))
        caller.free = max(now, caller.free) + delay
        return min(LONGEST_WAIT, caller.free - now)

    def _due(self, caller: _Caller, kind: DoorKind) -> bool:
        now = self._monotonic()
        due = kind not in caller.told or now - caller.told[kind] >= TELL_SECONDS
        if due:
            caller.told[kind] = now
        return due

    def _tell(self, key: str, kind: DoorKind) -> None:
        with self._lock:
            counts = self._untold(key)
            count = counts.pop(kind, 0)
        if not count:
            return
        try:
            self._audit([DoorEvent(kind, key, count, self._clock())])
        except FirstreadError as error:
            log.warning("%d refusals are not in the audit yet: %s", count, error.code)
            with self._lock:
                counts[kind] += count

    def _untold(self, key: str) -> Counter[DoorKind]:
        return (
            self._others
            if key == OTHERS
            else self._callers[key].untold
            if key in self._callers
            else Counter()
        )


def _group(address: str) -> str:
    """The address; of IPv6 its network of 64 bits, since whoever has one address there has them all."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if known.version == 6 and not known.is_loopback:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
