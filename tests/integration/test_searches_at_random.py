"""A soup of search parameters: one more never shows more."""

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.web.searchable import SEARCHABLE
from tests.searched_site import fhir_client, studies_of_several_dates

VALUES = st.sampled_from(
    [
        *(
            "",
            " ",
            ",",
            "|",
            ",,",
            "a,",
            "Patient/",
            "patient-1",
            "Patient/patient-2",
            "report-1,report-2",
            "TEST-7",
        ),
        *(
            "urn:site:mrn|MRN-1",
            "urn:site:mrn|",
            "|ACC-1",
            "partial",
            "final",
            "|partial",
            "LP29684-5",
            "19005-8",
        ),
        *(
            "2026",
            "ge2026-02-03",
            "ne2019",
            "ap2026",
            "le9999-12-31",
            "true",
            "false",
            "male",
            "inv",
            "DX",
            "*",
        ),
        *(
            "DiagnosticReport/report-1",
            "-date",
            "date",
            "text",
            "id",
            "Provenance:target",
            "0",
            "1",
            "x" * 300,
        ),
        *("DiagnosticReport:result", "\\", "\\,", "%", "'", "\u0000", "\u200b", "\u0301", "\u3000"),
    ]
)
_KNOWN = sorted({name for names in SEARCHABLE.values() for name in names})
NAMES = st.sampled_from(
    [
        *_KNOWN,
        *(
            f"{name}:{modifier}"
            for name in ("identifier", "status", "patient")
            for modifier in ("not", "missing", "exact")
        ),
        *("date:missing", "name:contains", "family:exact", "_id:not"),
        *(
            "_sort",
            "_include",
            "_revinclude",
            "_elements",
            "_total",
            "_summary",
            "_contained",
            "_pretty",
            "_format",
        ),
        *(
            "patient.name",
            "_has:Observation:patient:code",
            "_filter",
            "_text",
            "_tag",
            "nonsense",
            "",
            "Patient",
        ),
    ]
)
SOUP = st.lists(st.tuples(NAMES, VALUES), max_size=3)


@pytest.fixture
def client(database_url: str) -> Iterator[httpx.Client]:
    with fhir_client(database_url, studies_of_several_dates()) as opened:
        yield opened


def _matches(client: httpx.Client, kind: str, soup: list[tuple[str, str]], lenient: bool) -> set[str] | None:
    """Ids of the matches, None for a refusal."""
    prefer = {"prefer": "handling=lenient"} if lenient else {}
    answer = client.get(f"/{kind}", params=[*soup, ("_count", "200")], headers=prefer)
    if answer.status_code in (400, 406):
        assert json.loads(answer.text)["resourceType"] == "OperationOutcome"
        return None
    assert answer.status_code == 200, answer.text
    entries = json.loads(answer.text).get("entry", [])
    return {one["resource"]["id"] for one in entries if one["search"]["mode"] == "match"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(list(SEARCHABLE)),
    soup=SOUP,
    more=st.tuples(NAMES, VALUES),
    lenient=st.booleans(),
)
def test_one_more_parameter_never_shows_more(
    client: httpx.Client, kind: str, soup: list[tuple[str, str]], more: tuple[str, str], lenient: bool
) -> None:
    wide, narrow = _matches(client, kind, soup, lenient), _matches(client, kind, [*soup, more], lenient)
    if narrow is None:
        return
    assert wide is not None, "what is refused is not healed by one more parameter"
    assert narrow <= wide
    if more[0] in SEARCHABLE[kind] and narrow == wide and wide:
        shown = _matches(client, kind, [], lenient)
        assert more[1].strip(" ,|\u3000\u0301"), "a blank filter is no filter"
        assert shown is not None
