"""Named queries, read from the ``.sql`` files of this folder: ``-- name: claim`` begins one."""

from functools import cache
from importlib.resources import files


@cache
def statement(group: str, name: str) -> str:
    """The text of query ``name`` in ``group``.sql; raises KeyError for a name that is not there."""
    return _group(group)[name]


@cache
def _group(group: str) -> dict[str, str]:
    text = (files(__name__) / f"{group}.sql").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        found[name.strip()] = body.strip().rstrip(";")
    return found
