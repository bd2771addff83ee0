"""Text as a person sees it: nothing in it steers a terminal, turns the direction of writing or is hidden."""

from pipeline.characters import CONTROLS, DIRECTIONS, HALVES, LINE_ENDS, UNSEEN, one_of

_CONTROL = one_of(CONTROLS, HALVES)
_UNSEEN = one_of(UNSEEN, DIRECTIONS)
_BREAKS = one_of("\t\n\f\r", LINE_ENDS)


def visible(text: str) -> str:
    """``text`` with line feeds alone between its lines and without characters that cannot be seen.

    Raises ValueError for control characters and halves of surrogate pairs, whichever way they came into it: JSON has
    escapes for them.
    """
    if _CONTROL.search(text):
        raise ValueError("it holds control characters: it is no text")
    return _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))


def one_line(text: str) -> str:
    """``text`` on one line."""
    return " ".join(text.split())


def shown_name(name: str) -> str:
    """A file's name as it can be shown: ``name`` itself where it is plain."""
    plain = name.encode("utf-8", "replace").decode("utf-8")
    for unwanted in (_CONTROL, _UNSEEN, _BREAKS):
        plain = unwanted.sub("?", plain)
    return plain
