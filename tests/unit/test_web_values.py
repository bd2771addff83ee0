"""Dates, search strings, formats and access: pure parts of the web, with hostile input."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from pipeline.errors import ConfigurationError
from pipeline.lookup import Criterion, PatientIn, StatusIn, StudyIn, Token, TokenIn
from pipeline.web import create_app, serve
from pipeline.web.access_control import AccessControl
from pipeline.web.dates import LAST, date_range
from pipeline.web.negotiation import require_json
from pipeline.web.outcomes import FhirError
from pipeline.web.search_parameters import ParsedSearch, parse_search
from pipeline.web.searchable import SEARCHABLE
from tests.memory_reader import MemoryReader

BASE = "http://127.0.0.1:1/fhir"


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def wall(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - the clock on the wall


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026", ("eq", wall(2026, 1, 1), wall(2027, 1, 1))),
        ("eq2026-02", ("eq", wall(2026, 2, 1), wall(2026, 3, 1))),
        ("2026-12", ("eq", wall(2026, 12, 1), wall(2027, 1, 1))),
        ("2024-02-29", ("eq", wall(2024, 2, 29), wall(2024, 3, 1))),
        ("ne2026-01-31", ("ne", wall(2026, 1, 31), wall(2026, 2, 1))),
        ("sa2026-01", ("sa", wall(2026, 1, 1), wall(2026, 2, 1))),
        ("ge2026-01-31T10:00Z", ("ge", at(2026, 1, 31, 10), at(2026, 1, 31, 10, 1))),
        ("2026-01-31T10:00:05+02:00", ("eq", at(2026, 1, 31, 8, 0, 5), at(2026, 1, 31, 8, 0, 6))),
        ("ge2026-01-31T10:00:05 02:00", ("ge", at(2026, 1, 31, 8, 0, 5), at(2026, 1, 31, 8, 0, 6))),
        (
            "lt2026-01-31T10:00:05.250Z",
            ("lt", at(2026, 1, 31, 10, 0, 5, 250_000), at(2026, 1, 31, 10, 0, 5, 251_000)),
        ),
        ("ge0001-01-01", ("ge", wall(1, 1, 1), wall(1, 1, 2))),
        ("le9999-12-31", ("le", wall(9999, 12, 31), LAST.replace(tzinfo=None))),
        ("9999", ("eq", wall(9999, 1, 1), LAST.replace(tzinfo=None))),
    ],
)
def test_dates_are_ranges_as_exact_as_they_are_written(
    value: str, expected: tuple[str, datetime, datetime]
) -> None:
    assert date_range(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", "26", "2026-13", "2026-02-30", "2026-1-1", "ge", "2026-01-01T25:00Z", "٢٠٢٦"),
        *(
            "0000-01-01",
            "10000-01-01",
            "xx2026",
            "0001-01-01T00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "-0001-01-01",
        ),
    ],
)
def test_other_dates_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        date_range(value)


@given(
    st.text(max_size=40)
    | st.from_regex(r"(ge|lt|ne|)\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)?)?")
)
def test_any_date_is_read_or_refused(value: str) -> None:
    try:
        _, start, end = date_range(value)
    except ValueError:
        return
    assert start < end


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
)
def test_any_search_is_understood_or_refused(
    resource_type: str, parameters: list[tuple[str, str]], strict: bool
) -> None:
    try:
        parsed = parse_search(resource_type, parameters, base=BASE, strict=strict)
    except FhirError:
        return
    assert 1 <= parsed.search.limit <= 200


def search(
    *parameters: tuple[str, str], kind: str = "DiagnosticReport", strict: bool = False
) -> ParsedSearch:
    return parse_search(kind, parameters, base=BASE, strict=strict)


def criteria(*parameters: tuple[str, str], kind: str = "DiagnosticReport") -> tuple[Criterion, ...]:
    return search(*parameters, kind=kind).search.criteria


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a|b", [Token("a", "b")]),
        ("|b", [Token("", "b")]),
        ("b", [Token(None, "b")]),
        ("a|", [Token("a", "")]),
        (r"a|b\,c,d\|e", [Token("a", "b,c"), Token(None, "d|e")]),
        (r"a\\,b", [Token(None, "a\\"), Token(None, "b")]),
        ("a|b|c", [Token("a", "b|c")]),
    ],
)
def test_identifier_tokens(value: str, expected: list[Token]) -> None:
    assert criteria(("identifier", value)) == (TokenIn("identifier", tuple(expected)),)


@pytest.mark.parametrize("value", ["1.2.3", "urn:oid:1.2.3", "urn:dicom:uid|urn:oid:1.2.3"])
def test_study_uids(value: str) -> None:
    assert criteria(("study-uid", value)) == (StudyIn(("1.2.3",)),)


@pytest.mark.parametrize("value", ["p1", "Patient/p1", f"{BASE}/Patient/p1", "Patient/p1/_history/2"])
@pytest.mark.parametrize("name", ["patient", "subject", "subject:Patient", "patient:Patient"])
def test_patient_references(name: str, value: str) -> None:
    assert criteria((name, value)) == (PatientIn(("p1",)),)


def test_a_status_of_another_code_system_is_no_status_of_ours() -> None:
    system = "http://hl7.org/fhir/diagnostic-report-status"
    assert criteria(("status", f"{system}|partial,final")) == (StatusIn(("partial", "final")),)
    assert criteria(("status", "urn:other|partial")) == (StatusIn(()),), "which nothing meets"
    assert criteria(("status", f"{system}|")) == (), "every status of the system"


def test_a_repeated_filter_must_hold_too() -> None:
    assert len(criteria(("code", "a"), ("code", "b"), ("patient", "p1"), ("subject", "p1"))) == 4


NOT_UNDERSTOOD = [
    *(
        ("pateint", "p1"),
        ("identifier:exact", "x"),
        ("status:above", "final"),
        ("patient:missing", "x"),
        ("patient:not", "p1"),
    ),
    *(
        ("patient.name", "x"),
        ("patient:Patient.name", "x"),
        ("_has:Observation:patient:code", "x"),
        ("_id:above", "x"),
    ),
    *(
        ("_sort", "nonsense"),
        ("_sort", "-date,status"),
        ("_sort", "-"),
        ("_include", "*"),
        ("_include", "Patient:link"),
    ),
    *(("_include:iterate", "DiagnosticReport:result"), ("_include", "DiagnosticReport:result:Patient")),
    *(
        ("_revinclude", "Observation:patient"),
        ("_contained", "true"),
        ("_summary", "maybe"),
        ("_total", "perhaps"),
    ),
    *(
        ("_filter", "status eq partial"),
        ("_text", "x"),
        ("_content", "x"),
        ("_list", "x"),
        ("_query", "x"),
        ("", "x"),
    ),
    *(
        ("_elements", "id,"),
        ("_elements", "a.b"),
        ("_count", "some"),
        ("_tag", "x"),
        ("_security", "x"),
        ("q", "x"),
    ),
]
BLANK = ["", " ", "\t", ",", "a,", ",a", " , ", "\u3000", "a,,b"]
BLANK_TOKENS = ["|", "|,|", "a,|", " | ", "\\,,"]
BLANK_REFERENCES = ["Patient/", "Patient/,a", "/", "Patient//_history/1"]


@pytest.mark.parametrize(("name", "value"), NOT_UNDERSTOOD)
def test_what_is_not_understood_is_refused(name: str, value: str) -> None:
    with pytest.raises(FhirError) as refused:
        search((name, value), ("patient", "p1"))
    assert refused.value.status == 400


@pytest.mark.parametrize("kind", SEARCHABLE)
def test_a_blank_filter_is_refused_whatever_it_filters(kind: str) -> None:
    for name, type_of_it in SEARCHABLE[kind].items():
        more = {"token": BLANK_TOKENS, "reference": BLANK_REFERENCES}.get(type_of_it, [])
        for value in [*BLANK, *([] if name == "_id" else more)]:
            with pytest.raises(FhirError) as refused:
                search((name, value), kind=kind)
            assert refused.value.status == 400, (name, value)


def test_only_what_tells_nothing_is_ignored_and_never_if_the_client_is_strict() -> None:
    for name, value in (("_pretty", "true"), ("_totalMethod", "count"), ("_summary", "true")):
        assert search((name, value), ("patient", "p1")).used == (("patient", "p1"),), name
        with pytest.raises(FhirError):
            search((name, value), strict=True)


def test_shaping_parameters_are_given_once() -> None:
    for name, value in (("_sort", "date"), ("_count", "2"), ("_page", "x"), ("_elements", "id")):
        with pytest.raises(FhirError):
            search((name, value), (name, value))
    assert search(
        ("_include", "DiagnosticReport:result"), ("_include", "DiagnosticReport:subject")
    ).includes == (
        "result",
        "subject",
    )


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


def test_a_name_of_accents_alone_is_refused() -> None:
    """Names are compared without accents: nothing would be left of it, and everyone's name begins with nothing."""
    for value in ("\u0301", "a,\u0301\u0302"):
        with pytest.raises(FhirError):
            search(("name", value), kind="Patient")
