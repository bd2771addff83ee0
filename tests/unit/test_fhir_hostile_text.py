"""Whatever headers and drafts hold, the resources are valid and safe to show, or the study fails with a reason."""

import base64
import json
import unicodedata
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import FailStudy
from pipeline.fhir import validate
from pipeline.fhir.elements import clean
from pipeline.report import CheckOutcome, Finding, Side, Verdict
from pipeline.study import Code, LeftOut
from pipeline.study_context import InstanceDescription, PatientIdentity
from tests.unit.fhir_samples import CHINESE, CONTEXT, DRAFT, FRONTAL, IMAGES, STUDY, body, built

NASTY = (
    "<script>alert(1)</script>",
    "'; DROP TABLE report; --",
    "../../etc/passwd",
    "]]>&lt;!--",
    '" onload="x()',
    "a\x00b\x1b\x7f\x85",
    "\ud800\udfff",
    "\ufffe\uffff",
    "\u3000山田\u3000太郎",
    "مريض\u202eabc",
    "🙂" * 40,
    "\u2028\u2029\u00a0",
    "^^^^^^",
    "",
)
TEXT = st.one_of(st.sampled_from(NASTY), st.text(max_size=60), st.text(st.characters(), max_size=20))
DATES = st.one_of(st.none(), st.dates(date(1, 1, 1)))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.one_of(st.none(), st.datetimes(), st.datetimes(timezones=OFFSETS))
CODES = st.tuples(TEXT, TEXT, TEXT).map(lambda parts: Code(*parts))
PATIENTS = st.builds(
    PatientIdentity,
    TEXT,
    TEXT,
    st.lists(TEXT, max_size=4).map(tuple),
    DATES,
    st.one_of(TEXT, st.sampled_from("MFO")),
)
INSTANCES = st.builds(
    InstanceDescription,
    st.just(FRONTAL),
    st.sampled_from(("1.2.840.10008.5.1.4.1.1.1.1", "")),
    TEXT,
    st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    TEXT,
    TEXT,
    st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    TEXT,
    TEXT,
)
CONTEXTS = st.builds(
    replace,
    st.just(CONTEXT),
    patient=PATIENTS,
    accession_number=TEXT,
    accession_issuer=TEXT,
    started=MOMENTS,
    description=TEXT,
    procedure_codes=st.lists(CODES, max_size=3).map(tuple),
    indication=TEXT,
    instances=st.lists(INSTANCES, max_size=1).map(tuple),
)
FINDINGS = st.builds(
    Finding,
    st.sampled_from(("nodule", "pleural_effusion", "something_new")),
    st.booleans(),
    st.one_of(st.none(), st.sampled_from(Side)),
    st.sampled_from(("", "upper", "lower")),
    TEXT,
    TEXT,
    st.none(),
    st.one_of(st.none(), st.floats()),
)


class Shown(HTMLParser):
    """What a browser would make of a page: its tags and its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def assert_safe(resources: Any) -> None:
    """Valid, serialisable, and nothing in it that a browser would run."""
    validate(resources)
    for one in resources:
        json.loads(orjson.dumps(one.body))
        texts = [one.body["text"]["div"]] if "text" in one.body else []
        texts += [base64.b64decode(form["data"]).decode() for form in one.body.get("presentedForm", ())]
        for text in texts:
            shown = Shown()
            shown.feed(text)
            assert not shown.tags & {"script", "img", "a", "iframe", "form", "svg"}
            known = {"xmlns", "lang", "xml:lang", "class", "charset", "http-equiv", "content"}
            assert shown.attributes <= known


@settings(max_examples=150, deadline=None)
@given(context=CONTEXTS)
def test_any_headers(context: Any) -> None:
    assert_safe(built(context=context))


@settings(max_examples=150, deadline=None)
@given(
    base=st.sampled_from((DRAFT, CHINESE)),
    findings_text=TEXT,
    impression_text=TEXT,
    findings=st.lists(FINDINGS, max_size=3).map(tuple),
    message=TEXT,
)
def test_any_draft(base: Any, findings_text: str, impression_text: str, findings: Any, message: str) -> None:
    draft = replace(base, findings_text=findings_text, impression_text=impression_text, findings=findings)
    images = replace(IMAGES, left_out=(LeftOut("2.25.1", "code", message),))
    checks = (CheckOutcome("repetition", Verdict.WARNED, message),)
    confident = all(one.confidence is None or 0 <= one.confidence <= 1 for one in findings if one.present)
    if clean(findings_text) and clean(impression_text) and confident:
        assert_safe(built(draft=draft, image_set=images, checks=checks))
    else:
        with pytest.raises(FailStudy) as caught:
            built(draft=draft, image_set=images, checks=checks)
        assert STUDY not in str(caught.value)


@given(text=st.text(st.characters()))
def test_cleaned_text_has_no_character_that_fhir_forbids(text: str) -> None:
    for letter in clean(text):
        assert letter in "\t\n\r" or unicodedata.category(letter) not in ("Cc", "Cs")


@pytest.mark.parametrize("text", [one for one in NASTY if clean(one)])
def test_nasty_text_is_kept_but_for_what_is_forbidden(text: str) -> None:
    resources = built(draft=replace(DRAFT, findings_text=text, impression_text=text))
    assert_safe(resources)
    assert body(resources, "DiagnosticReport")["conclusion"] == clean(text)
    assert body(resources, "Observation")["valueString"] == clean(text)


def test_a_very_long_text_fails_the_study() -> None:
    with pytest.raises(FailStudy):
        validate(built(draft=replace(DRAFT, findings_text="a" * (1 << 21))))


@pytest.mark.parametrize("uid", ["", "1.2.03", "2.25." + "1" * 60, "not a uid"])
def test_odd_uids_are_valid_or_refused(uid: str) -> None:
    odd = replace(CONTEXT.instances[1], ref=replace(FRONTAL, sop_instance_uid=uid))
    resources = built(context=replace(CONTEXT, instances=(CONTEXT.instances[0], odd)))
    if uid == "1.2.03":
        validate(resources)
    else:
        with pytest.raises(FailStudy):
            validate(resources)


def test_moments_at_the_ends_of_time() -> None:
    for moment in (
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ):
        validate(built(context=replace(CONTEXT, started=moment)))
