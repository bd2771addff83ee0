"""Searches by date over Postgres, against a plain reading of R4 section 3.1.1.4.6: ranges on both sides."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pipeline.lookup import Prefix, ResourceSearch
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.web.outcomes import FhirError
from pipeline.web.search_values import date_is
from tests.plain_search import TZ_CODE, compares, dated

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = ("", "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", "No/Such")
DAYS = ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-08", "2026-11-01")
TIMES = ("00:00:00", "07:30:00", "12:00:00.250", "23:59:59")
OFFSETS = ("Z", "+14:00", "-12:00", "-05:00", "+05:45")


def _bodies() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [
        {"effectiveDateTime": one}
        for one in ("2025", "2026", "2026-02", "2026-11", "9999-12-31", "9999-12", "9999")
    ]
    for day, zone in product(DAYS, ZONES):
        extension = {"extension": [{"url": TZ_CODE, "valueCode": zone}]}
        told.append({"effectiveDateTime": day, **({"_effectiveDateTime": extension} if zone else {})})
    told += [
        {"effectiveDateTime": f"{day}T{time}{offset}"} for day, time, offset in product(DAYS, TIMES, OFFSETS)
    ]
    told += [{}, {"effectiveInstant": "2026-02-28T10:00:00.125Z"}]
    base = {"resourceType": "Observation", "status": "preliminary"}
    return [{**base, "id": f"dated-{number}", **one} for number, one in enumerate(told)]


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """What stands in for a zone that no server knows: UTC."""
    known = body.get("_effectiveDateTime", {}).get("extension", [{}])[0].get("valueCode") != "No/Such"
    return body if known else {key: value for key, value in body.items() if not key.startswith("_")}


BODIES = _bodies()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.cursor().executemany(
            "INSERT INTO firstread.resource (resource_type, resource_id, version_id, last_updated, body, written_by) "
            "VALUES ('Observation', %s, 1, now(), %s, 'machine')",
            [(body["id"], Jsonb(body)) for body in BODIES],
        )
    with Store(database_url) as opened:
        yield opened


@st.composite
def asked(draw: st.DrawFn) -> str:
    """A value of a date search: any prefix, any exactness, with or without a zone."""
    prefix = draw(st.sampled_from(["", *Prefix]))
    day = draw(st.sampled_from([*DAYS, "0001-01-01", "9999-12-31"]))
    exact = draw(st.sampled_from([4, 7, 10, 13]))
    if exact < 13:
        return f"{prefix}{day[:exact]}"
    time = draw(st.sampled_from([*TIMES, "07:30", "00:00"]))
    return f"{prefix}{day}T{time}{draw(st.sampled_from(['', *OFFSETS]))}"


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=asked())
@example(value="9999-12-31")
@example(value="9999")
@example(value="ne9999-12")
@example(value="le9999-12-31T23:59:59Z")
@example(value="ge2026-02-28T08:00:00Z")
@example(value="2026-02-28")
@example(value="gt2026-02-28T00:00:00-05:00")
def test_every_prefix_is_what_a_plain_reading_gives(store: Store, value: str) -> None:
    try:
        wanted = date_is("date", value, now=NOW)
    except FhirError:
        assert value.endswith(("0001-01-01", *OFFSETS)), value  # beyond the calendar
        return
    local = wanted.start.tzinfo is None
    expected = {
        body["id"]
        for body in BODIES
        if (span := dated(_plain(body), local=local)) is not None and compares(wanted, *span)
    }
    search = ResourceSearch("Observation", (wanted,), limit=1000)
    assert {one.resource_id for one in store.search(search).resources} == expected
    assert store.count(search) == len(expected)


def test_a_day_is_found_by_the_day_that_the_clock_on_the_wall_showed(store: Store) -> None:
    """R4 section 3.1.1.4.6: dates do not have time zones, and time zones should not be considered."""
    wanted = date_is("date", "2026-02-28", now=NOW)
    found = {
        one.resource_id
        for one in store.search(ResourceSearch("Observation", (wanted,), limit=1000)).resources
    }
    assert found == {
        body["id"]
        for body in BODIES
        if (body.get("effectiveDateTime") or body.get("effectiveInstant", "")).startswith("2026-02-28")
    }


def test_a_day_of_an_archive_in_the_west_reaches_into_the_next_day_of_greenwich(store: Store) -> None:
    new_york = next(
        body["id"]
        for body in BODIES
        if "_effectiveDateTime" in body
        and body["effectiveDateTime"] == "2026-02-28"
        and body["_effectiveDateTime"]["extension"][0]["valueCode"] == "America/New_York"
    )
    for value, there in (
        ("ge2026-03-01T03:00:00Z", True),
        ("ge2026-03-01T05:00:00Z", False),
        ("lt2026-02-28T04:59:00Z", False),
        ("le2026-02-28T05:00:00Z", False),
        ("le2026-02-28T05:00:01Z", True),
        ("sa2026-02-28T04:59:59Z", True),
        ("eb2026-03-01T05:00:00Z", True),
        ("ap2026-02-28T12:00:00-05:00", True),
    ):
        wanted = date_is("date", value, now=NOW)
        found = store.search(ResourceSearch("Observation", (wanted,), limit=1000)).resources
        assert (new_york in {one.resource_id for one in found}) is there, value


def test_approximately_is_a_tenth_of_the_time_from_now() -> None:
    wanted = date_is("date", "ap2026-05-22T12:00:00Z", now=NOW)
    assert NOW - timedelta(days=11) < wanted.start < NOW - timedelta(days=10, hours=23)
    assert wanted.end - wanted.start < timedelta(days=2, seconds=2)
