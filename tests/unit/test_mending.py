"""What can mend a failure: every code that a program can end a study with is known, and no other."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.ledger import Circumstances
from pipeline.mending import COOLING, MENDED_BY, MendedBy, advice, is_mended, mended_by

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)
HERE, UPGRADED, RESET = Circumstances("p1", "s1"), Circumstances("p2", "s1"), Circumstances("p1", "s2")


def raised(*names: str) -> set[str]:
    """Codes that are written out where one of these errors is raised, anywhere in the program."""
    calls = [
        node
        for room in ("pipeline", "models", "flows")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names and node.args
    ]
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_time_mends_what_may_get_better_and_nothing_else() -> None:
    retried = raised("RetryLater", "LostClaim")
    assert len(retried) > 10
    by_time = {code for code, mended in MENDED_BY.items() if mended is MendedBy.TIME}
    assert retried - by_time == set(), (
        "name these RetryLater codes in pipeline/mending.py, or no sweep tries them again"
    )


@pytest.mark.parametrize(
    ("code", "waited", "present", "mended"),
    [
        ("archive-busy", COOLING, HERE, True),
        ("archive-busy", COOLING - timedelta(minutes=1), UPGRADED, False),
        ("too-large", timedelta(0), RESET, True),
        ("too-large", timedelta(days=9), UPGRADED, False),
        ("unexpected", timedelta(0), UPGRADED, True),
        ("unexpected", timedelta(days=9), RESET, False),
        ("mixed-patients", timedelta(days=9), Circumstances("p9", "s9"), False),
        ("report-signed", timedelta(days=9), Circumstances("p9", "s9"), False),
        ("a code of an older release", timedelta(days=9), Circumstances("p9", "s9"), False),
    ],
)
def test_a_failure_is_taken_up_again_by_what_can_mend_it(
    code: str, waited: timedelta, present: Circumstances, mended: bool
) -> None:
    assert is_mended(code, NOW - waited, HERE, NOW, present) is mended


def test_every_failure_has_advice() -> None:
    told = [
        advice(code) for code in ("incomplete", "too-large", "unexpected", "undecodable", "report-signed")
    ]
    assert len(set(told)) == len(MendedBy)
    assert mended_by("undecodable") is MendedBy.ARCHIVE
