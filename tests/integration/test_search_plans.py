"""Searches over 50,000 reports read what they need: the plan names the index, and few rows are looked at in vain."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pipeline.lookup import (
    Criterion,
    DateIs,
    Order,
    PatientIn,
    Prefix,
    ResourceSearch,
    SortKey,
    StatusIn,
    Token,
    TokenIn,
)
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.place import token_of
from pipeline.store.searching import Condition, counted, searched
from tests.conftest import SHARED
from tests.many_resources import COUNT, FIRST, write_many

DAY = timedelta(days=1)
MIDDLE = FIRST + 100 * DAY
LAST = FIRST + COUNT * timedelta(minutes=10)
YEAR = timedelta(days=366)


@pytest.fixture(scope="module")
def many(postgres_server: EmbeddedPostgres, _shared_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session as the program's own, over many reports."""
    write_many(postgres_server.admin_conninfo(SHARED))
    with psycopg.connect(libpq_url(_shared_database_url), autocommit=True) as connection:
        connection.execute("SET search_path TO firstread")
        connection.execute("SET timezone TO 'UTC'")
        yield connection
    with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as admin:
        admin.execute("SET session_replication_role TO replica")
        admin.execute("TRUNCATE firstread.resource")


def dated(prefix: Prefix, start: datetime, *, changed: bool = False) -> DateIs:
    return DateIs(prefix, start, start + DAY, changed)


def wall(prefix: Prefix, start: datetime) -> DateIs:
    """A day as the clock on the wall had it."""
    return DateIs(prefix, start.replace(tzinfo=None), (start + DAY).replace(tzinfo=None))


def explained(connection: psycopg.Connection[Any], asked: Condition) -> list[dict[str, Any]]:
    """Every node of the plan that was run."""
    text, values = asked
    row = connection.execute(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode(), values, prepare=False
    ).fetchone()
    assert row is not None
    nodes, found = [row[0][0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes += node.get("Plans", [])
    return found


def looked_at(nodes: list[dict[str, Any]]) -> int:
    """Rows that were read or removed by the scans."""
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    return int(sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans))


SEARCHES: list[tuple[tuple[Criterion, ...], int]] = [
    ((dated(Prefix.EQUAL, MIDDLE),), 1_000),
    ((dated(Prefix.STARTS_AFTER, LAST),), 200),
    ((wall(Prefix.EQUAL, MIDDLE),), 1_000),
    ((wall(Prefix.APPROXIMATELY, LAST + YEAR),), 2_000),
    ((wall(Prefix.STARTS_AFTER, LAST),), 400),
    ((wall(Prefix.LESS, FIRST),), 400),
    ((dated(Prefix.ENDS_BEFORE, FIRST),), 200),
    ((dated(Prefix.LESS, FIRST),), 200),
    (
        (dated(Prefix.GREATER_OR_EQUAL, MIDDLE), dated(Prefix.LESS, MIDDLE + DAY), StatusIn(("partial",))),
        40_000,
    ),
    ((dated(Prefix.GREATER_OR_EQUAL, LAST + YEAR, changed=True),), 200),
    ((dated(Prefix.EQUAL, MIDDLE + YEAR, changed=True),), 1_000),
    ((dated(Prefix.LESS, FIRST, changed=True),), 200),
    ((StatusIn(("final",)),), 200),
    ((StatusIn(("final", "amended")), dated(Prefix.GREATER_OR_EQUAL, FIRST)), 200),
    ((TokenIn("code", (Token("http://loinc.org", "99999-9"),)),), 200),
    ((PatientIn(("many-7",)), TokenIn("code", (Token(None, "36554-4"),))), 200),
]


@pytest.mark.parametrize("order", [Order.CHANGED, Order.DATED])
@pytest.mark.parametrize(("criteria", "most"), SEARCHES)
def test_a_page_is_read_from_an_index(
    many: psycopg.Connection[Any], criteria: tuple[Criterion, ...], most: int, order: Order
) -> None:
    nodes = explained(many, searched(ResourceSearch("DiagnosticReport", criteria, (SortKey(order),))))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], nodes
    assert looked_at(nodes) <= most, [(node["Node Type"], node.get("Index Name")) for node in nodes]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize(
    ("order", "index"),
    [(Order.CHANGED, "resource_newest"), (Order.DATED, "resource_dated"), (Order.ID, "resource_pkey")],
)
def test_an_order_is_that_of_its_index(
    many: psycopg.Connection[Any], order: Order, index: str, ascending: bool
) -> None:
    key = SortKey(order, ascending)
    nodes = explained(many, searched(ResourceSearch("DiagnosticReport", (), (key,))))
    assert {node.get("Index Name") for node in nodes} == {index, None}
    assert looked_at(nodes) <= 60


def test_a_page_in_the_middle_of_two_keys_is_read_from_an_index(many: psycopg.Connection[Any]) -> None:
    """Forwards and backwards, the second key going the other way."""
    keys = (SortKey(Order.DATED), SortKey(Order.CHANGED, ascending=True))
    place = token_of("ddcaia", (MIDDLE, MIDDLE + YEAR), "many-14400")
    for page in (place, f"b.{place}"):
        nodes = explained(many, searched(ResourceSearch("DiagnosticReport", (), keys, page=page)))
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], nodes
        assert looked_at(nodes) <= 200, page


@pytest.mark.parametrize(
    "criteria",
    [
        (),
        (StatusIn(("final",)),),
        (StatusIn(("partial",)),),
        (dated(Prefix.EQUAL, MIDDLE),),
        (dated(Prefix.GREATER_OR_EQUAL, MIDDLE),),
        (dated(Prefix.GREATER_OR_EQUAL, MIDDLE + YEAR, changed=True),),
    ],
)
def test_a_count_reads_the_index_alone(
    many: psycopg.Connection[Any], criteria: tuple[Criterion, ...]
) -> None:
    nodes = explained(many, counted(ResourceSearch("DiagnosticReport", criteria)))
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    assert [node["Node Type"] for node in scans] == ["Index Only Scan"], scans
    assert scans[0]["Heap Fetches"] <= COUNT / 100, "but for pages that vacuum could not get"


def test_the_dates_of_the_reports_are_those_that_are_asked_for(many: psycopg.Connection[Any]) -> None:
    """The plans above would prove little of an empty table."""
    row = many.execute("SELECT count(*), min(dated_from), max(dated_from) FROM resource").fetchone()
    assert row == (COUNT, FIRST + timedelta(minutes=10), LAST)
    assert many.execute(
        *counted(ResourceSearch("DiagnosticReport", (dated(Prefix.EQUAL, MIDDLE),)))
    ).fetchone() == (144,)
    assert datetime.now(UTC) > FIRST
