"""What is wrong with an address in a configuration, told without a word of it: it may hold a secret."""

import ipaddress
import re
from urllib.parse import urlsplit

from pydantic import SecretStr


def database_url_fault(url: str) -> str:
    """What is wrong with a database URL, without a word of it; "" for one that can be tried."""
    advice = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the password as %XX"
    if not re.match(r"postgres(ql)?(\+psycopg)?://", url):
        return f"is no address of a Postgres database: write {advice}"
    try:
        parts = urlsplit(url)
        whole = parts.port is not None or not parts.netloc.rpartition("@")[2].endswith(":")
    except ValueError:
        whole = False
    if not whole or "#" in url or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return f"cannot be read as an address: write {advice}"
    return ""


def refuse_clear_secrets(url: str, allowed: bool, *secrets: SecretStr) -> None:
    """Raise ValueError where one of ``secrets`` would go over plain http to another machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return  # said by whoever opens it
    given = any(one.get_secret_value() for one in secrets)
    if given and not allowed and parts.scheme.lower() == "http" and not is_this_machine(parts.hostname or ""):
        raise ValueError(
            "its secret would be sent over plain http, for all on the way to read: use https, or set plain_http = true"
        )


def is_this_machine(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the name localhost; no name is ever looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
