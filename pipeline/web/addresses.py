"""At which address a client called: the one it named, unless the site or a trusted proxy knows better.

Behind a TLS proxy we are called over plain http. Links made of that address lead nowhere, or send a token in the clear.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from pipeline.errors import ConfigurationError

HOST: Final = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?",
    re.ASCII,
)
"""A Host header that names a host (RFC 9110 section 7.2); nothing else goes into a link."""
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_FORWARDED: Final = re.compile(r'(?:^|;)\s*(for|proto|host)="?([^";,]{1,255})"?', re.IGNORECASE)
_MOST_HOPS = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_LONGEST_NAME = 128

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Seen:
    """The address of this server as the client has it, without a slash at its end, and the client's own address."""

    address: str
    client: str
    person: str = ""
    """Whom a trusted proxy has signed in; "" where it does not say."""

    @property
    def scheme(self) -> str:
        """http or https."""
        return self.address.partition(":")[0]

    @property
    def host(self) -> str:
        """Host, and port where one is named."""
        return urlsplit(self.address).netloc


@dataclass(frozen=True, slots=True)
class Addresses:
    """``public_url`` is the base of every link where it is set; what ``proxies`` say of a client is believed, and whom
    they name in ``person_header``.
    """

    public_url: str = ""
    proxies: tuple[Network, ...] = ()
    person_header: str = ""

    @classmethod
    def of(
        cls, public_url: str = "", trusted_proxies: Sequence[str] = (), person_header: str = ""
    ) -> "Addresses":
        """Read the settings.

        Raises ConfigurationError("public-url") or ("trusted-proxies") for what is no address, and ("person-header") for
        what is no header, or one that nobody is trusted to set.
        """
        url = public_url.rstrip("/")
        try:
            parts = urlsplit(url)
            known = (
                parts.scheme in ("http", "https")
                and HOST.fullmatch(parts.netloc)
                and _PREFIX.fullmatch(parts.path)
            )
        except ValueError:
            known = None
        if url and (not known or parts.query or parts.fragment):
            raise ConfigurationError(
                "public-url",
                "[serve] public_url is the address of this server, such as https://fhir.example.org",
            )
        try:
            networks = tuple(ipaddress.ip_network(one, strict=False) for one in trusted_proxies)
        except ValueError:
            raise ConfigurationError(
                "trusted-proxies", "[serve] trusted_proxies are IP addresses or networks"
            ) from None
        if person_header and not (networks and _TOKEN.fullmatch(person_header)):
            raise ConfigurationError(
                "person-header",
                "[serve] person_header is the name of a header, and trusted_proxies say whose word it is",
            )
        return cls(url, networks, person_header)

    @property
    def behind_proxy(self) -> bool:
        """Whether peers that look local may not be."""
        return bool(self.public_url or self.proxies)

    def seen(self, scope: Scope) -> Seen | None:
        """Where the client of ``scope`` called; None if its Host header names no host."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        peer = scope["client"][0] if scope.get("client") else ""
        if not HOST.fullmatch(host):
            return None
        scheme, prefix, client, person = str(scope["scheme"]), "", peer, ""
        if self._trusts(peer):
            told = _told(headers)
            scheme = told["proto"] if told["proto"] in ("http", "https") else scheme
            host = told["host"] if HOST.fullmatch(told["host"]) else host
            prefix = told["prefix"].rstrip("/") if _PREFIX.fullmatch(told["prefix"]) else ""
            client = self._client(told["for"], peer)
            person = self._person(headers)
        return Seen(self.public_url or f"{scheme}://{host}{prefix}", client, person)

    def _person(self, headers: Headers) -> str:
        """The last name that is given: a proxy that adds its own behind the client's has the last word."""
        named = headers.getlist(self.person_header) if self.person_header else []
        return named[-1].strip()[:_LONGEST_NAME] if named else ""

    def _trusts(self, address: str) -> bool:
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self.proxies)

    def _client(self, chain: str, peer: str) -> str:
        """The last hop that is no proxy of ours: what stands before it, anybody could have written."""
        for hop in [one.strip() for one in chain.split(",")][: -_MOST_HOPS - 1 : -1]:
            address = _host_of(hop)
            if not address:
                return peer
            peer = address
            if not self._trusts(address):
                return peer
        return peer


def _told(headers: Headers) -> dict[str, str]:
    """What a proxy says: X-Forwarded-*, or Forwarded (RFC 7239) where it sends none of those."""
    told = {
        name: ",".join(headers.getlist(f"x-forwarded-{name}")) for name in ("for", "proto", "host", "prefix")
    }
    if not any(told.values()):
        last = headers.getlist("forwarded")[-1:]
        said = {
            name.lower(): value
            for name, value in _FORWARDED.findall(last[0].rpartition(",")[2] if last else "")
        }
        return {"prefix": "", "for": "", "proto": "", "host": ""} | said
    return told | {name: told[name].rpartition(",")[2].strip() for name in ("proto", "host", "prefix")}


def _host_of(hop: str) -> str:
    """The IP address of a hop, without a port; "" for a name or anything else."""
    bare = hop.strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return ""
