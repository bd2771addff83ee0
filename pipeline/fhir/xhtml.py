"""Checks ``text.div``: well-formed XHTML of an allow-list, with something to read (R4 txt-1, txt-2).

The list is narrower than the standard's: no links, images, styles or scripts, since no narrative of ours
needs them.
"""

from typing import Any
from xml.parsers import expat

from pipeline.fhir.primitives import BrokenRuleError

_NAMESPACE = "http://www.w3.org/1999/xhtml"
_BLOCKS = (
    "div",
    "p",
    "br",
    "hr",
    "pre",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
)
_TABLES = ("table", "thead", "tbody", "tr", "th", "td")
_ELEMENTS = frozenset((*_BLOCKS, *_TABLES, "b", "i", "em", "strong", "span"))
_ATTRIBUTES = frozenset(("class", "lang", "xml:lang", "title", "id", "colspan", "rowspan"))


def check_div(value: Any, _found: list[str]) -> None:
    """Raise BrokenRuleError unless ``value`` is a safe XHTML div in the right namespace."""
    if type(value) is not str or not value.startswith("<div"):
        raise BrokenRuleError("must be an XHTML div")
    shown: list[str] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = _Opening()
    parser.CharacterDataHandler = shown.append
    parser.CommentHandler = parser.ProcessingInstructionHandler = _refuse
    try:
        parser.Parse(value.encode("utf-8"), True)
    except (expat.ExpatError, UnicodeEncodeError):
        raise BrokenRuleError("is not well-formed XHTML") from None
    if not any(part.strip() for part in shown):
        raise BrokenRuleError("has nothing to read")


class _Opening:
    """The start-tag callback: the first element is the div with its namespace, the rest are on the list."""

    __slots__ = ("inside",)

    def __init__(self) -> None:
        self.inside = False

    def __call__(self, name: str, attributes: dict[str, str]) -> None:
        if not self.inside:
            self.inside = True
            if name != "div" or attributes.pop("xmlns", "") != _NAMESPACE:
                raise BrokenRuleError("must be a div in the XHTML namespace")
        if name not in _ELEMENTS:
            raise BrokenRuleError("holds an XHTML element that is not allowed")
        if attributes and not _ATTRIBUTES.issuperset(attributes):
            raise BrokenRuleError("holds an XHTML attribute that is not allowed")


def _refuse(*_anything: str) -> None:
    raise BrokenRuleError("holds a comment or processing instruction")
