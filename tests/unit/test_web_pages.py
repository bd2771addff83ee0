"""What the report page says in a draft's own language, and what it marks as changed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.fhir.codes import finding_name
from pipeline.lookup import ReportVersion
from pipeline.report import Finding, Language, Side
from pipeline.settings import ServeSettings
from pipeline.web.differences import differences
from pipeline.web.naming import place_of, severity_of
from pipeline.web.review_view import review_view
from tests.invented_outcomes import answered_outcome
from tests.memory_reader import MemoryReader

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int, findings: str, impression: str = "Same.") -> ReportVersion:
    return ReportVersion(number, "partial", WHEN, "model", findings, impression)


def told(new: str, old: str) -> dict[str, str]:
    """What stands in a difference, by how it is marked."""
    (one,) = differences((version(2, new), version(1, old)))
    ((name, changes),) = one.sections
    assert name == "Findings"
    return {
        how: "".join(change.text for change in changes if change.how in ("kept", how))
        for how in ("new", "gone")
    }


@given(new=st.text(max_size=80), old=st.text(max_size=80))
def test_a_difference_holds_both_texts_whole(new: str, old: str) -> None:
    if new != old:
        both = told(new, old)
        assert (both["new"].strip(), both["gone"].strip()) == (new.strip(), old.strip())


def test_chinese_is_compared_letter_by_letter() -> None:
    (one,) = differences(
        (
            version(2, "左侧大量胸腔积液。未见气胸，心影不大。"),
            version(1, "左侧少量胸腔积液。未见气胸，心影不大。"),
        )
    )
    ((_, changes),) = one.sections
    assert [change.text for change in changes if change.how != "kept"] == ["少", "大"]


def test_the_same_and_what_no_model_wrote_is_no_difference() -> None:
    withdrawn = ReportVersion(2, "entered-in-error", WHEN, "")
    assert differences((version(3, "A"), withdrawn, version(1, "A"))) == ()
    (one,) = differences((version(3, "B"), withdrawn, version(1, "A")))
    assert (one.version, one.before) == (3, 1)


def test_a_very_long_text_is_shown_whole_and_not_compared() -> None:
    long = " ".join(f"word{number}" for number in range(2000))
    assert told(long, "short")["new"].split() == long.split()


def test_findings_are_named_in_the_drafts_language() -> None:
    reader = MemoryReader()
    reader.save_all([answered_outcome(0, Language.CHINESE)])
    (detail,) = reader.details.values()
    detail = replace(detail, draft=replace(detail.draft, language=Language.CHINESE))
    view = review_view(detail, finding_name, "https://viewer.example/?study={study}&x=1")
    assert [line.name for line in view.stated] == ["胸腔积液", "结节"]
    assert view.stated[0].place == "左侧下肺野"
    assert view.stated[0].severity == "少量"
    assert view.headings[1] == "所见"
    assert view.viewer == f"https://viewer.example/?study={detail.row.study_instance_uid}&x=1"


def test_words_of_a_place() -> None:
    finding = Finding("nodule", present=True, side=Side.LEFT, zone="upper", severity="large")
    assert place_of(finding, Language.ENGLISH) == "left upper zone"
    assert (place_of(finding, Language.CHINESE), severity_of(finding, Language.CHINESE)) == (
        "左侧上肺野",
        "大量",
    )


@pytest.mark.parametrize(
    "url", ["javascript:alert('{study}')", "https://viewer.example/", "https://a/{study} b", "//a/{study}"]
)
def test_a_viewer_is_an_address_that_holds_the_study(url: str) -> None:
    with pytest.raises(ValidationError):
        ServeSettings(viewer_url=url)
