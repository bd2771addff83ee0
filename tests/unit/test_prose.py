"""Docstrings and comments are filled: no line breaks after a word, no paragraph ends inside a parenthesis."""

from tests import prose

RAGGED = '''
def read() -> str:
    """The value of a row.

    A first line that is long enough to be told from a break after a whole sentence, and that goes on
    for a word
    or two in a line of its own.
    """
    return "as it is"
'''


def test_no_docstring_is_ragged_or_cut() -> None:
    assert [fault for path in prose.modules() for fault in prose.faults(path)] == []


def test_a_ragged_paragraph_is_found_and_filled() -> None:
    (found,) = [one for one in prose.paragraphs(RAGGED) if one.is_ragged()]
    assert found.start == 4
    mended = prose.mended(RAGGED)
    assert not any(one.is_ragged() for one in prose.paragraphs(mended))
    assert mended.split() == RAGGED.split()
    assert prose.mended(mended) == mended


def test_a_sentence_cut_inside_a_parenthesis_is_found() -> None:
    text = '"""What the statuses mean (PS3.4 C.4.1.\n\nPS3.7 annex C): in words.\n"""\n'
    assert [one.is_cut() for one in prose.paragraphs(text)] == [True, False]


def test_lists_tables_and_code_are_left_alone() -> None:
    text = '"""Rows.\n\n- one\n- two\n\na   b\nc   d\n\n    code\n    more\n"""\n'
    assert prose.mended(text) == text
