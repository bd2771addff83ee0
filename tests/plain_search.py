"""Searches of FHIR and of the review list as their definitions say them, one resource at a time."""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.lookup import DateIs, Prefix, ReportFilter, ReportRow, Token


def is_wanted(row: ReportRow, wanted: ReportFilter) -> bool:
    said = (row.patient_name, row.patient_id, row.accession_number)
    return (
        any(wanted.text.lower() in one.lower() for one in said)
        and wanted.study_date in (None, row.study_date)
        and wanted.status in ("", row.status)
        and not (wanted.attention and not row.warnings and not row.gap)
    )


def position(ids: list[str], after: str) -> int:
    if not after:
        return 0
    return ids.index(after) + 1


def has(elements: Sequence[Mapping[str, Any]], token: Token, value: str) -> bool:
    return any(
        (token.system is None or token.system == one.get("system", ""))
        and (not token.value or token.value == one[value])
        for one in elements
    )


def codings(body: Mapping[str, Any], parameter: str) -> list[Mapping[str, Any]]:
    if parameter == "gender":
        return [{"system": "http://hl7.org/fhir/administrative-gender", "code": body.get("gender")}]
    if parameter == "modality":
        return [one["modality"] for one in body.get("series", ())]
    concepts = body.get(parameter, [])
    return [
        one
        for concept in (concepts if isinstance(concepts, list) else [concepts])
        for one in concept["coding"]
    ]


def names(body: Mapping[str, Any], part: str) -> list[str]:
    stated = body.get("name", ())
    if part == "family":
        return [one["family"] for one in stated if "family" in one]
    if part == "given":
        return [given for one in stated for given in one.get("given", ())]
    whole = [one["text"] for one in stated if "text" in one]
    return [
        *whole,
        *(word for one in whole for word in one.split()),
        *names(body, "family"),
        *names(body, "given"),
    ]


def folded(text: str) -> str:
    return "".join(
        one for one in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(one)
    )


NEVER = datetime.min.replace(tzinfo=UTC)


TZ_CODE = "http://hl7.org/fhir/StructureDefinition/tz-code"


def dated(body: Mapping[str, Any], *, local: bool = False) -> tuple[datetime, datetime] | None:
    """First and following instant of the date by which a resource is searched, as exact as it is written.

    ``local`` gives both as the clock on the wall said them, without a zone.
    """
    names = ("effectiveDateTime", "effectiveInstant", "started", "birthDate", "recorded")
    element = next((name for name in names if name in body), None)
    if element is None:
        return None
    said = body[element]
    if len(said) <= 10:
        start = datetime.fromisoformat(f"{said}-01-01"[:10] if len(said) == 4 else f"{said}-01"[:10])
        try:
            end = {
                4: lambda: start.replace(year=start.year + 1),
                7: lambda: (start + timedelta(days=31)).replace(day=1),
                10: lambda: start + timedelta(days=1),
            }[len(said)]()
        except (OverflowError, ValueError):
            end = datetime.max  # noqa: DTZ901 - as the end of a value that names the end of the calendar
        zones = [one["valueCode"] for one in _extensions(body, element) if one["url"] == TZ_CODE]
        zone = ZoneInfo(zones[0] if zones else "UTC")
        return (start, end) if local else (start.replace(tzinfo=zone), end.replace(tzinfo=zone))
    start = datetime.fromisoformat(said)
    start = start.replace(tzinfo=None) if local else start
    return start, start + (timedelta(milliseconds=1) if "." in said else timedelta(seconds=1))


def _extensions(body: Mapping[str, Any], element: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = body.get(f"_{element}", {}).get("extension", ())
    return found


def compares(wanted: DateIs, begins: datetime, ends: datetime) -> bool:
    """R4 section 3.1.1.4.6, in its own words: ranges contain or overlap one another."""
    contained = wanted.start <= begins and ends <= wanted.end
    above, below = ends > wanted.end, begins < wanted.start
    return {
        Prefix.EQUAL: contained,
        Prefix.NOT_EQUAL: not contained,
        Prefix.GREATER: above,
        Prefix.LESS: below,
        Prefix.GREATER_OR_EQUAL: above or contained,
        Prefix.LESS_OR_EQUAL: below or contained,
        Prefix.STARTS_AFTER: begins >= wanted.end,
        Prefix.ENDS_BEFORE: ends <= wanted.start,
        Prefix.APPROXIMATELY: begins < wanted.end and ends > wanted.start,
    }[wanted.prefix]


def is_missing(body: Mapping[str, Any], parameter: str) -> bool:
    """R4 section 3.1.1.4.5: the element that a parameter looks at is not there."""
    if parameter in ("family", "given"):
        return not names(body, parameter)
    if parameter == "modality":
        return not any("modality" in one for one in body.get("series", ()))
    elements = {
        "_id": ("id",),
        "_lastUpdated": ("meta",),
        "patient": ("subject",),
        "date": ("effectiveDateTime", "effectiveInstant", "effectivePeriod"),
        "birthdate": ("birthDate",),
        "study-uid": ("imagingStudy",),
    }
    return not any(one in body for one in elements.get(parameter, (parameter,)))
