"""How many requests are under way at once: fewer while the server queues or refuses, more again while it does not.

What waits in a server's queue is not answered sooner, and its deadline runs. So the number falls by half when the
server refuses for being busy or tells of a queue, and grows by one when as many answers as it allows have come.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

ASK_AGAIN = 2.0
"""Seconds between two looks at the server's queue, and between two halvings."""
METRICS = "/metrics"
_WAITING = re.compile(
    r"^(?:vllm:num_requests_waiting|sglang:num_queue_reqs)(?:\{[^}\n]*\})?[ \t]+([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*$",
    re.M,
)
"""Gauges of requests that wait, in Prometheus' text form."""


class UnderWay:
    """A gate for the requests of one event loop, at most ``most`` at once. ``now`` is a monotonic clock in seconds."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._room, self._open = float(most), 0
        self._halved = self._asked = -ASK_AGAIN
        self._freed = asyncio.Condition()

    @property
    def room(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._room))

    def answered(self) -> None:
        """A request was answered."""
        self._room = min(float(self._most), self._room + 1 / self._room)

    def crowded(self) -> None:
        """The server refused for being busy, or tells of requests that wait."""
        if self._now() - self._halved >= ASK_AGAIN:
            self._halved, self._room = self._now(), max(1.0, self._room / 2)

    def due(self) -> bool:
        """Whether it is time to look at the queue; the look is then taken for done."""
        if self._now() - self._asked < ASK_AGAIN:
            return False
        self._asked = self._now()
        return True

    async def __aenter__(self) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: self._open < self.room)
            self._open += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._freed:
            self._open -= 1
            self._freed.notify_all()


def waiting_requests(body: bytes) -> int | None:
    """Requests that wait by what ``/metrics`` tells: vLLM's and SGLang's gauges, TensorRT-LLM's statistics (JSON).

    None where it tells nothing of it.
    """
    text = body.decode("utf-8", "replace")
    told = [float(number) for number in _WAITING.findall(text)]
    if told:
        return int(sum(told))
    try:
        stored: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    latest = stored[-1] if isinstance(stored, list) and stored else None
    queued = latest.get("numQueuedRequests") if isinstance(latest, dict) else None
    return queued if isinstance(queued, int) and not isinstance(queued, bool) else None
