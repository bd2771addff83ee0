"""Text that shows another thing than it says: terminal control and overrides of writing direction."""

import io
import json
import logging

import pytest

from flows.commands import ending
from flows.commands.export_drafts import _cell
from flows.commands.json_text import json_text
from flows.commands.table import rows_table
from pipeline.errors import StopRun
from pipeline.fhir.elements import clean
from pipeline.logs import Redact

OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_neither_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows_table(("study", "reason"), [("7\x1b[2J", f"ab{OVERRIDES}cd\x07\x9b31m")])
    shown = capsys.readouterr().out
    assert "abcd31m" in shown
    assert not set(shown) & set(OVERRIDES + "\x1b\x07\x9b")


def test_neither_reaches_a_log_and_a_record_is_one_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Redact("%(levelname)s %(message)s"))
    record = logging.makeLogRecord(
        {"levelname": "WARNING", "msg": "refused %s", "args": (f"A\x1b[2J{OVERRIDES}\nINFO B\u2028C\x9b",)}
    )
    handler.emit(record)
    assert stream.getvalue() == f"WARNING refused A?[2J{'?' * len(OVERRIDES)} INFO B C?\n"


def test_neither_reaches_the_sentence_that_ends_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    def command(**_: object) -> int:
        raise StopRun("segmenter", f"a network of class \x1b]0;x\x07{OVERRIDES}")

    assert ending.run(command, ["--json"]) == 3
    told = capsys.readouterr()
    assert told.err == f"firstread: segmenter: a network of class ?]0;x?{'?' * len(OVERRIDES)}\n"
    assert json.loads(told.out)["error"]["code"] == "segmenter"


def test_json_for_programs_has_them_as_escapes() -> None:
    odd = f"ab{OVERRIDES}\x1b\x9b31m\u2028\ud800中"
    told = json_text({"text": odd})
    assert json.loads(told)["text"] == odd
    assert "中" in told
    assert not {one for one in told if not one.isprintable()}


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_of_an_export_is_computed(begin: str) -> None:
    assert _cell(f"{begin}1+1") == f"'{begin}1+1"
    assert _cell("1+1") == "1+1"


def test_neither_reaches_a_resource() -> None:
    assert clean(f"No\u202e effusion{OVERRIDES}\x1b") == "No effusion"
    assert clean("العربية עברית") == "العربية עברית"
