"""What the list of reports is asked for by its form. What is not understood is refused."""

from collections.abc import Mapping
from datetime import date

from pipeline.lookup import ListOrder, ReportFilter
from pipeline.web.review_view import STATUS_MEANING
from pipeline.web.search_values import CONTROL

_LONGEST = 200


def list_filter(asked: Mapping[str, str]) -> ReportFilter:
    """The filter that the fields of the form name; empty fields ask nothing.

    Raises ValueError, with a sentence for the reader, for an unknown field or a value that a field cannot have.
    """
    if not set(asked) <= {"text", "date", "status", "attention", "order"}:
        raise ValueError("The list can be searched by text, date, status and attention, and put in an order.")
    text = CONTROL.sub("", asked.get("text", "")).strip()
    status = asked.get("status", "")
    if len(text) > _LONGEST:
        raise ValueError("That is too long to search for.")
    if status and status not in STATUS_MEANING:
        raise ValueError("There is no such status.")
    if asked.get("attention", "1") != "1":
        raise ValueError("Attention is asked for by 1.")
    try:
        day = date.fromisoformat(asked["date"]) if asked.get("date") else None
    except ValueError:
        raise ValueError("A study date is written as 2026-01-31.") from None
    return ReportFilter(text, day, status, "attention" in asked, list_order(asked.get("order", "")))


def list_order(asked: str) -> ListOrder:
    """The order that is asked for; critical findings first where none is. Raises ValueError for another word."""
    try:
        return ListOrder(asked or ListOrder.CRITICAL)
    except ValueError:
        raise ValueError("The list begins with the critical or the newest drafts.") from None
