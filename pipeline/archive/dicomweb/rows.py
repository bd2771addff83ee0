"""The rows of a QIDO-RS answer (PS3.18 8.3.4 and Annex F): read as far as they go, each row by itself."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.archive.passed_over import PassedOver
from pipeline.archive.study_answers import DIGEST_TAGS, found_study, one_study
from pipeline.archive.uids import clean_uid, is_uid
from pipeline.study import FoundStudy

Json = Mapping[str, Any]

STUDY, SERIES, INSTANCE, SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
PATIENT_ID = "00100020"
LARGEST_JSON = 256 << 20
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def parse_rows(body: bytes, passed_over: PassedOver) -> list[Json]:
    """The rows of an answer; an empty one is none (PS3.18 8.3.4).

    Text in another character set than UTF-8, control characters and numbers beyond all bounds cost what they spoil, not
    the answer. null is no match, one row without an array is that row. Raises ValueError where the answer is something
    else.
    """
    body = _plain(body)
    if not body.strip(b" \t\r\n\0"):
        return []
    rows = _parsed(body)
    if rows is None:
        return []
    if isinstance(rows, dict) and any(map(_TAG.fullmatch, rows)):
        rows = [rows]
    if not isinstance(rows, list):
        raise ValueError("not an array")
    sound = [_upper(row) for row in rows if isinstance(row, dict)]
    if rows and not sound:
        raise ValueError("an array of something else than objects")
    if len(sound) < len(rows):
        passed_over.add("row-unreadable", len(rows) - len(sound))
    return sound


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, strict=False)
    except UnicodeDecodeError:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python turns into one
        return json.loads(body, strict=False, parse_int=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _plain(body: bytes) -> bytes:
    """``body`` without a gzip that nobody asked for. Raises ValueError where it is damaged or far too large."""
    if body[:2] != b"\x1f\x8b":
        return body
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, LARGEST_JSON)
    except (zlib.error, gzip.BadGzipFile):
        raise ValueError("damaged gzip") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError("a gzip that does not end")
    return plain


def _upper(row: Json) -> Json:
    """Tags in upper case (PS3.18 F.2.2), as some archives do not write them."""
    return {str(tag).upper(): value for tag, value in row.items()}


def unique_studies(rows: list[Json], passed_over: PassedOver, patient_id: str = "") -> Iterator[FoundStudy]:
    """Each study of the rows once. Rows of another Patient ID than the one asked for are not meant."""
    by_uid: dict[str, list[Json]] = {}
    for row in rows:
        by_uid.setdefault(uid_of(row, STUDY), []).append(row)
    for uid, alike in by_uid.items():
        if not is_uid(uid):
            passed_over.add("row-without-uid", len(alike))
            continue
        meant = [row for row in alike if not patient_id or text_of(row, PATIENT_ID) in ("", patient_id)]
        if meant:
            yield one_study([(_found(row), _announced(row)) for row in meant])


def key_of(row: Json) -> str:
    """What tells a row from every other of its level; a study may be listed under two patients."""
    return f"{uid_of(row, STUDY)} {uid_of(row, INSTANCE)} {text_of(row, PATIENT_ID)}"


def uid_of(row: Json, tag: str) -> str:
    """The UID without padding, "" where absent."""
    return clean_uid(text_of(row, tag))


def text_of(row: Json, tag: str) -> str:
    """The first value as text, "" where absent."""
    values = _values(row, tag)
    return _text(values[0]).strip() if values and values[0] is not None else ""


def _text(value: object) -> str:
    """As text without lone surrogates, which JSON can write (RFC 8259 8.2) and no database holds."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _found(row: Json) -> FoundStudy:
    modalities = tuple(_text(value) for value in _values(row, "00080061") if value)
    return found_study(uid_of(row, STUDY), _announced(row), modalities, text_of(row, "00201208"))


def _announced(row: Json) -> Mapping[int, str]:
    return {tag: _raw(row, f"{tag:08X}") for tag in DIGEST_TAGS}


def _values(row: Json, tag: str) -> list[Any]:
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else [] if values is None else [values]


def _raw(row: Json, tag: str) -> str:
    """The values as an element of a data set would have them; a name's component groups too (PS3.18 F.2.2)."""
    return "\\".join(
        "=".join(_text(value.get(group) or "") for group in _NAME_GROUPS).rstrip("=")
        if isinstance(value, dict)
        else _text(value)
        for value in _values(row, tag)
        if value is not None
    )
