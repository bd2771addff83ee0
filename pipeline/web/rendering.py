"""Pages from templates: everything that is put in is escaped, and no page has a script."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

_TEMPLATES = Path(__file__).parent / "templates"
MOST_LIT = 99
"""Marks up to this number light up; any can be gone to."""
_TITLES = {
    202: "Asked",
    400: "Not understood",
    403: "Not from here",
    404: "Not found",
    405: "Read only",
    409: "Not asked",
    503: "One moment",
}


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page ``template`` filled with ``values``, each escaped where it is put in."""
    text = _environment().get_template(template).render(**{"signed_in": False, **values})
    return HTMLResponse(text, status_code=status)


def message_page(status: int, message: str) -> HTMLResponse:
    """A page that only says something."""
    return page(
        "message.html", status=status, title=_TITLES.get(status, "Something went wrong"), message=message
    )


def asset(name: str) -> bytes:
    """A file that the pages refer to. Raises KeyError for any other name."""
    if name not in ("review.css", "icon.svg"):
        raise KeyError(name)
    content = (_TEMPLATES / name).read_bytes()
    return content + _lit().encode() if name == "review.css" else content


@cache
def _lit() -> str:
    """Rules that light up the mark of what the pointer or the keyboard is on: no page has a script to do it."""
    chosen = "{--mark:var(--chosen);--other:var(--chosen);--heavy:4.5px}"
    return "".join(
        f'.reading:has([data-marks~="{number}"]:is(:hover,:focus)) #region-{number}{chosen}\n'
        for number in range(1, MOST_LIT + 1)
    )
