"""Tables on the terminal."""

import pytest
from rich.cells import cell_len

from flows.commands.table import cells, rows_table, tally_table
from flows.tally import Tally


def test_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A model's answer, or the message of an archive, may hold anything."""
    rows_table(("[key]", "value"), [("[vqa]", "a [/b] [red]c")], title="[model]", caption="see [model] id")
    shown = capsys.readouterr().out
    for text in ("[key]", "[vqa]", "a [/b] [red]c", "[model]", "see [model] id"):
        assert text in shown


def test_columns_stand_under_their_names_and_text_is_folded_at_spaces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    rows_table(
        ("id", "why", "what to do"), [("long-identifier", "cut", "ask the archive again"), ("b", "", "")]
    )
    assert capsys.readouterr().out.splitlines() == [
        "id               why  what to",
        "                      do",
        "long-identifier  cut  ask the",
        "                      archive",
        "                      again",
        "b",
    ]


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_no_line_is_wider_than_the_terminal_in_any_writing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    """Wide and combining characters are counted as rich counts them (Unicode Standard Annex 11)."""
    monkeypatch.setenv("COLUMNS", width)
    texts = [
        "右侧胸腔积液。" * 20,
        "e\N{COMBINING ACUTE ACCENT}" * 90,
        "x" * 300,
        "plain words of a message " * 9,
    ]
    rows_table(("id", "text"), [("a", text) for text in texts])
    shown = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in shown) <= int(width)
    assert [cells(text) for text in texts] == [cell_len(text) for text in texts]
    told = "".join(line.removeprefix("a").strip() for line in shown[1:]).replace(" ", "")
    assert told == "".join(texts).replace(" ", "")


def test_what_an_archive_wrote_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows_table(("key", "value"), [("a\x1b[2J", "b\x07\x9b31mc\r\nd")])
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
    assert "b31mc" in shown
    assert "d" in shown


def test_the_counts_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    tally_table(Tally(discovered=12, reported=3, seconds=1.25, passed_over=2))
    names, values = capsys.readouterr().out.splitlines()
    assert names.split() == [
        "discovered", "reported", "skipped", "failed", "unchanged", "seconds", "passed", "over"
    ]  # fmt: skip
    assert values.split() == ["12", "3", "0", "0", "0", "1.2", "2"]
    assert len(names) == len(values)
