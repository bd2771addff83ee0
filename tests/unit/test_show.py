"""Tables on the terminal."""

import pytest

from flows.commands.table import rows_table


def test_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A model's answer, or the message of an archive, may hold anything."""
    rows_table(("[key]", "value"), [("[vqa]", "a [/b] [red]c")], title="[model]", caption="see [model] id")
    shown = capsys.readouterr().out
    for text in ("[key]", "[vqa]", "a [/b] [red]c", "[model]", "see [model] id"):
        assert text in shown
