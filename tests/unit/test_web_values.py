"""Dates, search strings, formats and access: pure parts of the web, with hostile input."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from pipeline.errors import ConfigurationError
from pipeline.lookup import IdentifierToken, InstantRange
from pipeline.web import create_app, serve
from pipeline.web.access_control import AccessControl
from pipeline.web.dates import instant_range
from pipeline.web.negotiation import require_json
from pipeline.web.outcomes import FhirError
from pipeline.web.search_parameters import SEARCHABLE, parse_search
from tests.memory_reader import MemoryReader

BASE = "http://127.0.0.1:1/fhir"


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026", InstantRange(at(2026, 1, 1), at(2027, 1, 1))),
        ("eq2026-02", InstantRange(at(2026, 2, 1), at(2026, 3, 1))),
        ("2026-12", InstantRange(at(2026, 12, 1), at(2027, 1, 1))),
        ("2024-02-29", InstantRange(at(2024, 2, 29), at(2024, 3, 1))),
        ("ne2026-01-31", InstantRange(at(2026, 1, 31), at(2026, 2, 1), outside=True)),
        ("ge2026-01-31", InstantRange(since=at(2026, 1, 31))),
        ("gt2026-01-31", InstantRange(since=at(2026, 2, 1))),
        ("sa2026-01", InstantRange(since=at(2026, 2, 1))),
        ("le2026-01-31", InstantRange(until=at(2026, 2, 1))),
        ("lt2026-01-31", InstantRange(until=at(2026, 1, 31))),
        ("eb2026", InstantRange(until=at(2026, 1, 1))),
        ("ge2026-01-31T10:00Z", InstantRange(since=at(2026, 1, 31, 10))),
        ("2026-01-31T10:00:05+02:00", InstantRange(at(2026, 1, 31, 8, 0, 5), at(2026, 1, 31, 8, 0, 6))),
        ("ge2026-01-31T10:00:05 02:00", InstantRange(since=at(2026, 1, 31, 8, 0, 5))),
        ("ge2026-01-31T10:00:05.250Z", InstantRange(since=at(2026, 1, 31, 10, 0, 5, 250_000))),
    ],
)
def test_dates_are_ranges_as_exact_as_they_are_written(value: str, expected: InstantRange) -> None:
    assert instant_range(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "ap2026", "26", "2026-13", "2026-02-30", "2026-1-1", "9999", "ge", "2026-01-01T25:00Z", "٢٠٢٦"],
)
def test_other_dates_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        instant_range(value)


@given(
    st.text(max_size=40)
    | st.from_regex(r"(ge|lt|ne|)\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)?)?")
)
def test_any_date_is_read_or_refused(value: str) -> None:
    try:
        found = instant_range(value)
    except ValueError:
        return
    assert found.since is None or found.until is None or found.since < found.until


NAMES = st.sampled_from(
    (
        *(
            "_id",
            "_count",
            "_page",
            "date",
            "patient",
            "subject:Patient",
            "identifier",
            "study-uid",
            "status",
        ),
        *(
            "_summary",
            "_total",
            "_lastUpdated",
            "patient.identifier",
            "identifier:missing",
            "nonsense",
            "_sort",
        ),
    )
)


@given(
    st.sampled_from([*SEARCHABLE, "Nonsense"]),
    st.lists(st.tuples(NAMES | st.text(), st.text()), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_any_search_is_understood_or_refused(
    resource_type: str, parameters: list[tuple[str, str]], strict: bool, lenient: bool
) -> None:
    try:
        parsed = parse_search(resource_type, parameters, base=BASE, strict=strict, lenient=lenient)
    except FhirError:
        return
    assert 1 <= parsed.search.limit <= 200


def search(*parameters: tuple[str, str], strict: bool = False, lenient: bool = False):  # type: ignore[no-untyped-def]
    return parse_search("DiagnosticReport", parameters, base=BASE, strict=strict, lenient=lenient)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a|b", [IdentifierToken("a", "b")]),
        ("|b", [IdentifierToken("", "b")]),
        ("b", [IdentifierToken(None, "b")]),
        ("a|", [IdentifierToken("a", "")]),
        (r"a|b\,c,d\|e", [IdentifierToken("a", "b,c"), IdentifierToken(None, "d|e")]),
        ("a|b|c", [IdentifierToken("a", "b|c")]),
    ],
)
def test_identifier_tokens(value: str, expected: list[IdentifierToken]) -> None:
    assert list(search(("identifier", value)).search.identifiers) == expected


@pytest.mark.parametrize("value", ["1.2.3", "urn:oid:1.2.3", "urn:dicom:uid|urn:oid:1.2.3"])
def test_study_uids(value: str) -> None:
    assert search(("study-uid", value)).search.studies == ("1.2.3",)


@pytest.mark.parametrize("value", ["p1", "Patient/p1", f"{BASE}/Patient/p1"])
def test_patient_references(value: str) -> None:
    assert search(("patient", value)).search.patients == ("p1",)


def test_a_misspelt_filter_is_refused_unless_the_client_is_lenient() -> None:
    with pytest.raises(FhirError):
        search(("pateint", "p1"))
    assert search(("pateint", "p1"), lenient=True).search.patients == ()
    assert search(("_sort", "-date")).used == ()
    with pytest.raises(FhirError):
        search(("_sort", "-date"), strict=True)


@pytest.mark.parametrize(
    ("accept", "formats", "acceptable"),
    [
        (None, [], True),
        ("*/*", [], True),
        ("application/fhir+json; fhirVersion=4.0", [], True),
        ("application/fhir+json; fhirVersion=5.0", [], False),
        ("application/fhir+xml, application/json;q=0.5", [], True),
        ("application/fhir+xml", [], False),
        ("application/json;q=0", [], False),
        ("application/fhir+xml", ["json"], True),
        ("application/json", ["xml"], False),
    ],
)
def test_only_json_is_written(accept: str | None, formats: list[str], acceptable: bool) -> None:
    parameters = [("_format", value) for value in formats]
    if acceptable:
        require_json(accept, parameters)
    else:
        with pytest.raises(FhirError) as caught:
            require_json(accept, parameters)
        assert caught.value.status == 406


def request(peer: str, host: str, **headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in {"host": host, **headers}.items()]
    return Request(
        {"type": "http", "client": (peer, 50000), "headers": raw, "path": "/", "query_string": b""}
    )


@pytest.mark.parametrize(
    ("peer", "host", "admitted"),
    [
        ("127.0.0.1", "127.0.0.1:8080", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "[::1]:8080", True),
        ("127.0.0.1", "reports.example:8080", False),
        ("10.0.0.5", "127.0.0.1:8080", False),
        ("127.0.0.1", "", False),
    ],
)
def test_without_a_token_only_this_machine_is_answered(peer: str, host: str, admitted: bool) -> None:
    control = AccessControl("", lambda: at(2026, 1, 1))
    assert control.admits_peer(request(peer, host)) is admitted


def test_a_session_ends_and_cannot_be_made_without_the_token() -> None:
    now = at(2026, 1, 1)
    control = AccessControl("right-token", lambda: now)
    cookie = control.new_session()
    assert "right-token" not in cookie
    assert control.admits(request("10.0.0.5", "x", cookie=f"firstread-session={cookie}"))
    other = AccessControl("other-token", lambda: now).new_session()
    assert not control.admits(request("10.0.0.5", "x", cookie=f"firstread-session={other}"))
    later = str(int((now + timedelta(days=2)).timestamp()))
    stretched = f"{later}.{cookie.partition('.')[2]}"
    assert not control.admits(request("10.0.0.5", "x", cookie=f"firstread-session={stretched}"))
    now += timedelta(hours=9)
    assert not control.admits(request("10.0.0.5", "x", cookie=f"firstread-session={cookie}"))


@pytest.mark.parametrize("token", ["", "short"])
def test_nothing_is_served_off_loopback_without_a_good_token(token: str) -> None:
    app = create_app(MemoryReader(), token=token, audit=lambda _: None, clock=lambda: at(2026, 1, 1))
    with pytest.raises(ConfigurationError) as caught:
        serve(app, "0.0.0.0", 0)
    assert caught.value.code == "token-missing"
