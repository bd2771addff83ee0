"""Drafts and their like as JSON for Postgres, and back without a difference."""

from dataclasses import replace
from datetime import UTC, date, datetime
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import FailStudy
from pipeline.ledger import Completeness
from pipeline.report import (
    Caption,
    CheckOutcome,
    DraftReport,
    Extent,
    Finding,
    ImpressionSource,
    Label,
    Language,
    Place,
    Point,
    PriorStudy,
    Provenance,
    Region,
    Side,
    Support,
    TaskAnswer,
    Verdict,
)
from pipeline.store.codec import as_json, checks_from, completeness_from, draft_from, left_out_from
from pipeline.study import DamagedInstance, InstanceRef, LeftOut

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
REFS = st.builds(InstanceRef, TEXT, TEXT, TEXT)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
REGIONS = st.none() | st.builds(Region, REFS, st.integers(0, 99), NUMBERS, NUMBERS, NUMBERS, NUMBERS)
POINTS = st.none() | st.builds(Point, REFS, st.integers(0, 99), NUMBERS, NUMBERS)
FINDINGS = st.builds(
    Finding,
    TEXT,
    st.booleans(),
    st.none() | st.sampled_from(Side),
    TEXT,
    TEXT,
    TEXT,
    REGIONS,
    st.none() | NUMBERS,
)
LABELS = st.builds(Label, TEXT, st.booleans(), st.none() | NUMBERS)
EXTENTS = st.none() | st.builds(
    Extent,
    st.lists(st.tuples(REFS, st.integers(0, 9)), max_size=3).map(tuple),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
PLACES = st.builds(Place, TEXT, REGIONS, POINTS, st.none() | NUMBERS, TEXT, EXTENTS)
ANSWERS = st.builds(
    TaskAnswer,
    TEXT,
    st.sampled_from(Language),
    TEXT,
    TEXT,
    st.lists(LABELS, max_size=2).map(tuple),
    st.lists(PLACES, max_size=2).map(tuple),
    TEXT,
    st.booleans(),
    TEXT,
    TEXT,
)
SUPPORTS = st.builds(Support, TEXT, TEXT, st.none() | REFS, REGIONS, TEXT)
REMARKS = st.builds(CheckOutcome, TEXT, st.sampled_from(Verdict), TEXT)
PRIORS = st.builds(PriorStudy, TEXT, st.none() | st.dates(min_value=date(1900, 1, 1)))
WHEN = st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1))  # noqa: DTZ001 - the zone is given
DRAFTS = st.builds(
    DraftReport,
    TEXT,
    st.sampled_from(Language),
    TEXT,
    TEXT,
    st.lists(FINDINGS, max_size=3).map(tuple),
    st.dictionaries(TEXT, NUMBERS, max_size=3),
    st.lists(REFS, max_size=2).map(tuple),
    st.builds(Provenance, TEXT, TEXT, TEXT, TEXT, WHEN, WHEN, st.dictionaries(TEXT, TEXT, max_size=2)),
    st.booleans(),
    st.lists(ANSWERS, max_size=2).map(tuple),
    st.lists(SUPPORTS, max_size=2).map(tuple),
    st.lists(REMARKS, max_size=1).map(tuple),
    st.none() | PRIORS,
    st.sampled_from(ImpressionSource),
    TEXT,
    st.lists(st.builds(Caption, REFS, st.integers(0, 999), TEXT), max_size=2).map(tuple),
)


@given(DRAFTS)
def test_a_draft_comes_back_as_it_was(draft: DraftReport) -> None:
    assert draft_from(orjson.loads(as_json(draft))) == draft


@given(DRAFTS)
def test_a_row_from_before_there_were_answers_is_read(draft: DraftReport) -> None:
    body = orjson.loads(as_json(draft))
    for name in ("answers", "supports", "remarks", "prior", "impression_source", "impression_model"):
        del body[name]
    older = replace(draft, answers=(), supports=(), remarks=(), prior=None)
    older = replace(older, impression_source=ImpressionSource.REPORT, impression_model="")
    assert draft_from(body) == older


@given(st.lists(st.builds(CheckOutcome, TEXT, st.sampled_from(Verdict), TEXT)).map(tuple))
def test_checks_come_back(checks: tuple[CheckOutcome, ...]) -> None:
    assert checks_from(orjson.loads(as_json(checks))) == checks


@given(st.lists(st.builds(LeftOut, TEXT, TEXT, TEXT)).map(tuple))
def test_left_out_instances_come_back(left_out: tuple[LeftOut, ...]) -> None:
    assert left_out_from(orjson.loads(as_json(left_out))) == left_out


@given(
    st.builds(
        Completeness,
        st.integers(0, 99),
        st.integers(0, 99),
        st.lists(TEXT).map(tuple),
        TEXT,
        TEXT,
        st.lists(st.builds(DamagedInstance, TEXT, TEXT, TEXT)).map(tuple),
    )
)
def test_completeness_comes_back(completeness: Completeness) -> None:
    assert completeness_from(orjson.loads(as_json(completeness))) == completeness


def test_any_mapping_is_an_object() -> None:
    assert as_json({"parts": MappingProxyType({"a": 1})}) == '{"parts":{"a":1}}'


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\x00b"])
def test_what_postgres_cannot_hold_fails_the_study(text: str) -> None:
    with pytest.raises(FailStudy) as refused:
        as_json({"text": text})
    assert refused.value.code == "not-storable"
    assert text not in str(refused.value)


def test_an_escaped_backslash_is_no_nul() -> None:
    assert as_json("\\u0000") == '"\\\\u0000"'
