"""How long the kernel waits for a peer, and how soon it answers one: options of a connection."""

import select
import socket
import struct
from contextlib import suppress

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only; forgotten after each read


def limit(connection: socket.socket, seconds: float, *options: int) -> None:
    """How long the kernel waits in one call: without it, Python asks first whether there is something to do.

    ``options`` are SO_RCVTIMEO, SO_SNDTIMEO, or both where none is named.
    """
    micro = max(1, round(seconds * 1e6))  # nothing would mean without end
    waits = struct.pack("ll", micro // 1_000_000, micro % 1_000_000)
    for option in options or (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, waits)


def acknowledge_at_once(connection: socket.socket) -> None:
    """A peer without TCP_NODELAY waits for our acknowledgement between writes: 40 ms each if late."""
    if _QUICK_ACK is not None:
        with suppress(OSError):  # the connection is gone; the next read says so
            connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


def readable(connection: socket.socket) -> bool:
    """Whether something has come. Polled, since select takes no descriptor above 1,023."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
