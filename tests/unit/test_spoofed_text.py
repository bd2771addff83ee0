"""Text that shows another thing than it says: terminal control and overrides of writing direction."""

import pytest

from flows.commands.table import rows_table
from pipeline.fhir.elements import clean

OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_neither_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows_table(("study", "reason"), [("7\x1b[2J", f"ab{OVERRIDES}cd\x07\x9b31m")])
    shown = capsys.readouterr().out
    assert "abcd31m" in shown
    assert not set(shown) & set(OVERRIDES + "\x1b\x07\x9b")


def test_neither_reaches_a_resource() -> None:
    assert clean(f"No\u202e effusion{OVERRIDES}\x1b") == "No effusion"
    assert clean("العربية עברית") == "العربية עברית"
