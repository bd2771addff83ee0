"""Values of FHIR search parameters (R4 section 3.1.1.4): alternatives, tokens, references, UIDs, dates, names."""

import re
from datetime import UTC, datetime
from typing import Final

from pipeline.lookup import DateIs, Prefix, Token
from pipeline.web.dates import date_range, widened
from pipeline.web.outcomes import FhirError

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that no value we search by can hold."""

_UID = re.compile(r"(?:urn:dicom:uid\|)?(?:urn:oid:)?([0-9]+(?:\.[0-9]+)*)", re.ASCII)
_SPLIT = re.compile(r"(?<!\\)((?:\\\\)*),")
_BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_ESCAPED = re.compile(r"\\([,|$\\])")
_MOST_ALTERNATIVES = 1000


def invalid(name: str, why: str) -> FhirError:
    """The refusal of a value of the parameter ``name``."""
    return FhirError(400, "invalid", f"{name}: {why}")


def alternatives(name: str, value: str) -> list[str]:
    """``value`` cut at its commas. Raises FhirError 400 if a part is blank: it could ask for anything."""
    pieces = _SPLIT.split(value)
    parts = [text + escapes for text, escapes in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
    if not all(part.strip() for part in parts):
        raise invalid(name, "holds an empty alternative")
    if len(parts) > _MOST_ALTERNATIVES:
        raise FhirError(400, "too-costly", f"{name}: at most {_MOST_ALTERNATIVES} alternatives")
    return parts


def plain(value: str) -> str:
    r"""``value`` without the escapes ``\,``, ``\|``, ``\$`` and ``\\``."""
    return _ESCAPED.sub(r"\1", value)


def tokens(name: str, value: str) -> tuple[Token, ...]:
    """``[system]|[code]`` alternatives. Raises FhirError 400 if one names neither."""
    found = []
    for part in alternatives(name, value):
        match = _BAR.search(part)
        if match is None:
            found.append(Token(None, plain(part)))
            continue
        system, code = plain(part[: match.end() - 1]), plain(part[match.end() :])
        if not system.strip() and not code.strip():
            raise invalid(name, "names neither a system nor a value")
        found.append(Token(system, code))
    return tuple(found)


def codes(name: str, value: str, system: str) -> tuple[str, ...] | None:
    """Codes of an element whose ``system`` is fixed; None if every code of it is asked for.

    A code of another system is left out: no element can have it.
    """
    wanted = [one for one in tokens(name, value) if one.system in (None, system)]
    return None if any(not one.value for one in wanted) else tuple(one.value for one in wanted)


def references(name: str, value: str, base: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Literal references as "Type/id"; where one type alone is possible the id suffices.

    ``base`` is our own FHIR base URL: an absolute reference to elsewhere matches nothing here. Raises FhirError 400
    for a reference without an id, or to a type that the element cannot have.
    """
    found = []
    for part in alternatives(name, value):
        local = plain(part).removeprefix(f"{base}/")
        if "://" in local or local.startswith("urn:"):
            found.append(local)
            continue
        kind, slash, rest = local.partition("/")
        kind, rest = (kind, rest) if slash else (kinds[0] if len(kinds) == 1 else "", local)
        if kind not in kinds:
            raise invalid(name, f"refers to something that is not a {' or '.join(kinds)}")
        identifier = rest.partition("/_history/")[0]
        if not identifier.strip():
            raise invalid(name, "refers to nothing")
        found.append(f"{kind}/{identifier}")
    return tuple(found)


def uids(name: str, value: str) -> tuple[str, ...]:
    """DICOM UIDs (PS3.5 section 9), plain or as urn:oid:."""
    found = [_UID.fullmatch(part) for part in alternatives(name, value)]
    if not all(match is not None and len(match[1]) <= 64 for match in found):
        raise invalid(name, "not a DICOM UID (PS3.5 section 9), plain or as urn:oid:")
    return tuple(match[1] for match in found if match is not None)


def date_is(name: str, value: str, *, now: datetime) -> DateIs:
    """One date with its prefix; ``now`` is for "ap".

    When something changed or was issued is told in UTC, and so asked.
    """
    changed, issued = name == "_lastUpdated", name == "issued"
    try:
        prefix, start, end = date_range(value)
    except ValueError as error:
        raise invalid(name, str(error)) from None
    if (changed or issued) and start.tzinfo is None:
        start, end = start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    if Prefix(prefix) is Prefix.APPROXIMATELY:
        start, end = widened(start, end, now)
    return DateIs(Prefix(prefix), start, end, changed, issued)
