"""Connections that end: a peer that says nothing, or takes an answer too slowly, holds no place from others.

The server library counts connections, and waits for ever for the head of the first request. Here a connection without a
whole request is closed after some seconds, one address holds a part of the places, and the longest silent goes first.
"""

import asyncio
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 10.0
"""How long the head of a request may take, from the connection or the last answer on."""
BODY_SECONDS: Final = 20.0
"""How long the body of a request may take."""
STALLED_SECONDS: Final = 30.0
"""How long a peer may leave an answer in our buffers."""
MOST_CONNECTIONS: Final = 256
MOST_OF_ADDRESS: Final = 64
"""Connections of one address that are served; those above are answered 503, but for /health."""
CROWDED: Final = "crowded"
"""Key of the scope's state: the connection is one above the places."""


class Connection(H11Protocol):
    """One connection of a peer."""

    most_of_address = MOST_OF_ADDRESS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._since = self.loop.time()
        self._stalled: float | None = None
        self._last_cycle: object = None

    @property
    def waits(self) -> bool:
        """Whether the peer has yet to send a request, or the rest of one."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    @property
    def since(self) -> float:
        """When the connection, the request or the pause began, whichever was last."""
        return self._since

    @property
    def address(self) -> str:
        """The peer's network address."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place; the longest silent connection of whoever holds most makes room."""
        super().connection_made(transport)
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        mine = [one for one in others if one.address == self.address]
        if len(mine) >= self.most_of_address:
            self._make_room(mine)
        elif len(others) >= MOST_CONNECTIONS:
            self._make_room(_of_the_heaviest(others))

    def _make_room(self, among: "list[Connection]") -> None:
        silent = [one for one in among if one.waits]
        if silent:
            min(silent, key=lambda one: one.since).transport.abort()
        elif len(among) < 2 * MOST_CONNECTIONS:
            self.app_state = {**self.app_state, CROWDED: True}
        else:
            self.transport.abort()

    def handle_events(self) -> None:
        """Note when a request begins."""
        super().handle_events()
        if self.cycle is not self._last_cycle:
            self._last_cycle = self.cycle
            self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """Note when the pause after an answer begins."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer takes the answer slower than we give it."""
        self._stalled = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The peer has taken what we had."""
        self._stalled = None
        super().resume_writing()

    def end_if_overdue(self, now: float) -> None:
        """Close if the peer has had its time."""
        if self._stalled is not None:
            if now - self._stalled > STALLED_SECONDS:
                self.transport.abort()
        elif self.waits:
            reading_body = self.cycle is not None and not self.cycle.response_complete
            if now - self._since > (BODY_SECONDS if reading_body else HEAD_SECONDS):
                self.transport.abort()


class ProxiedConnection(Connection):
    """One connection of a proxy, which has the peers of many."""

    most_of_address = MOST_CONNECTIONS


def _of_the_heaviest(connections: "list[Connection]") -> "list[Connection]":
    held: dict[str, list[Connection]] = {}
    for one in connections:
        held.setdefault(one.address, []).append(one)
    return max(held.values(), key=len)


class PatientServer(uvicorn.Server):
    """uvicorn that looks every second for connections that are overdue."""

    async def on_tick(self, counter: int) -> bool:
        """Once every 0.1 s; true ends the server."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for one in list(self.server_state.connections):
                if isinstance(one, Connection):
                    one.end_if_overdue(now)
        return await super().on_tick(counter)
