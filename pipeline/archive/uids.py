"""Unique identifiers as text (PS3.5 section 9.1)."""

import re

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST = 64


def clean_uid(value: bytes | str) -> str:
    """The UID without the padding of PS3.5 section 9.4, and without the spaces some devices write for it."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip("\0 ")


def is_uid(text: str) -> bool:
    """True for digits and dots, at most 64 characters, so that the text is safe as a file name and in a URL.

    Components with leading zeros, which PS3.5 forbids and old devices write, are let through.
    """
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None
