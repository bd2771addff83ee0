"""Who may send to ``firstread listen``, and what is told of those who may not: in the log, and counted in the audit."""

import ipaddress
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.archive.dimse.caller import Sender
from pipeline.errors import ConfigurationError
from pipeline.fhir import audit_events

log = logging.getLogger(__name__)

_LONGEST_TITLE = 16
_MOST_TOLD = 100
_OTHERS = Sender("others", "")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AllowedSender:
    """One entry of the list: an AE title, a network, or a title in a network; what is not said may be any."""

    title: str
    network: Network | None


def read_senders(entries: Sequence[str]) -> tuple[AllowedSender, ...]:
    """The list of ``[listen] senders``. Raises ConfigurationError naming the entry at fault."""
    return tuple(map(_entry, entries))


def is_allowed(sender: Sender, allowed: Sequence[AllowedSender]) -> bool:
    """Whether ``sender`` is on the list; with an empty one, whether it is on this machine."""
    address = _address(sender.address)
    if not allowed:
        return address is not None and address.is_loopback
    return any(
        (not one.title or one.title == sender.calling)
        and (one.network is None or (address is not None and address in one.network))
        for one in allowed
    )


class Refusals:
    """Counts what is refused; ``flush`` tells the audit, one event for each sender and reason.

    Thread-safe. A stranger cannot fill the log or the audit: a hundred senders are told apart between two calls of
    ``flush``, the rest are counted together, and each is logged once.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[Sender, str]] = Counter()
        self._logged: set[tuple[Sender, str]] = set()
        self._lock = threading.Lock()

    def add(self, sender: Sender, reason: str) -> None:
        """One more."""
        with self._lock:
            known = (sender, reason) in self._counts or len(self._counts) < _MOST_TOLD
            key = (sender if known else _OTHERS, reason)
            self._counts[key] += 1
            first = key not in self._logged and len(self._logged) < _MOST_TOLD
            if first:
                self._logged.add(key)
        if first:
            log.warning("%s", _told(*key))

    def flush(
        self,
        organization: str,
        append: Callable[[Sequence[Any]], None],
        note: Callable[[Sequence[tuple[str, str, int]]], None] = lambda _: None,
    ) -> None:
        """Give the events since the last call to ``append``; what it does not take is told the next time.

        ``note`` is then given sender, reason and count of each.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        now = datetime.now(UTC)
        try:
            append(
                [
                    audit_events.sender_refused(
                        organization, sender.calling, sender.address, reason, count, now
                    )
                    for (sender, reason), count in counts.items()
                ]
            )
        except BaseException:
            with self._lock:
                self._counts.update(counts)
            raise
        note([(str(sender), reason, count) for (sender, reason), count in counts.items()])


def _told(sender: Sender, reason: str) -> str:
    title = "".join(one for one in sender.calling if one.isascii() and one.isprintable()) or "(none)"
    if reason == "calling-ae":
        return (
            f"{title} at {sender.address} is refused: to receive from it add "
            f'"{title}@{sender.address}" to [listen] senders'
        )
    if reason == "called-ae":
        return f"{title} at {sender.address} is refused: it calls another AE title than ours"
    if reason == "other-bytes":
        return (
            f"{title} at {sender.address} sent other bytes under a UID that is here already; they are refused"
        )
    if reason == "busy":
        return f"{title} at {sender.address} is refused for now: too many associations at the same time"
    return f"an instance of {title} at {sender.address} is refused: {reason}"


def _entry(text: str) -> AllowedSender:
    title, at, network = text.strip().rpartition("@")
    if not at:
        parsed = _network(network)
        title, network = ("", network) if parsed else (network, "")
    if len(title) > _LONGEST_TITLE or (at and not (title and network)) or not (title or network):
        raise ConfigurationError(
            "senders", f"[listen] senders: {text!r} is no AE title, network or AE@network"
        )
    if network and _network(network) is None:
        raise ConfigurationError("senders", f"[listen] senders: {network!r} is no address or network")
    return AllowedSender(title, _network(network))


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
