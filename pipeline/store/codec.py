"""Drafts, checks and completeness as JSON for ``report_version``, and back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import date, datetime
from typing import Any

import orjson

from pipeline.errors import FailStudy
from pipeline.ledger import Completeness
from pipeline.report import (
    Caption,
    CheckOutcome,
    DraftReport,
    Extent,
    Finding,
    ImpressionSource,
    Label,
    Language,
    MaskRef,
    Place,
    Point,
    PriorStudy,
    Provenance,
    Region,
    Segment,
    Side,
    Support,
    TaskAnswer,
    Verdict,
)
from pipeline.study import Code, DamagedInstance, InstanceRef, LeftOut

Json = Mapping[str, Any]

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL: an odd number of backslashes before ``u0000``."""


def as_json(value: object) -> str:
    """JSON text of values, frozen dataclasses included.

    Raises FailStudy where it holds what JSON in Postgres cannot (lone surrogates, NUL).
    """
    try:
        text = orjson.dumps(value, default=_plain).decode()
    except (TypeError, orjson.JSONEncodeError):
        raise FailStudy("not-storable", "the report holds text that is not Unicode") from None
    if "\\u0000" in text and _NUL.search(text):
        raise FailStudy("not-storable", "the report holds a NUL character")
    return text


def draft_from(body: Json) -> DraftReport:
    """The DraftReport that ``as_json`` wrote; older rows lack its newer fields."""
    provenance = body["provenance"]
    return DraftReport(
        study_instance_uid=body["study_instance_uid"],
        language=Language(body["language"]),
        findings_text=body["findings_text"],
        impression_text=body["impression_text"],
        findings=tuple(_finding(one) for one in body["findings"]),
        probabilities=body["probabilities"],
        images=tuple(InstanceRef(**one) for one in body["images"]),
        provenance=Provenance(
            **{
                **provenance,
                "started": datetime.fromisoformat(provenance["started"]),
                "finished": datetime.fromisoformat(provenance["finished"]),
            }
        ),
        truncated=body["truncated"],
        answers=tuple(_answer(one) for one in body.get("answers", ())),
        supports=tuple(_support(one) for one in body.get("supports", ())),
        remarks=checks_from(body.get("remarks", ())),
        prior=_prior(body.get("prior")),
        impression_source=ImpressionSource(body.get("impression_source", "report")),
        impression_model=body.get("impression_model", ""),
        captions=tuple(
            Caption(**{**one, "ref": InstanceRef(**one["ref"])}) for one in body.get("captions", ())
        ),
    )


def checks_from(body: Sequence[Json]) -> tuple[CheckOutcome, ...]:
    """The checks' outcomes that ``as_json`` wrote."""
    return tuple(CheckOutcome(one["check"], Verdict(one["verdict"]), one["message"]) for one in body)


def left_out_from(body: list[Json]) -> tuple[LeftOut, ...]:
    """The instances left out that ``as_json`` wrote."""
    return tuple(LeftOut(**one) for one in body)


def completeness_from(body: Json) -> Completeness:
    """The Completeness that ``as_json`` wrote."""
    return Completeness(
        **{
            **body,
            "missing": tuple(body["missing"]),
            "damaged": tuple(DamagedInstance(**one) for one in body["damaged"]),
        }
    )


def _finding(body: Json) -> Finding:
    return Finding(
        **{
            **body,
            "side": Side(body["side"]) if body["side"] else None,
            "region": _region(body["region"]),
        }
    )


def _answer(body: Json) -> TaskAnswer:
    return TaskAnswer(
        **{
            **body,
            "language": Language(body["language"]),
            "labels": tuple(Label(**one) for one in body["labels"]),
            "places": tuple(_place(one) for one in body["places"]),
            "segments": tuple(_segment(one) for one in body.get("segments", ())),
            "mask_ref": _mask_ref(body.get("mask_ref")),
        }
    )


def _segment(body: Json) -> Segment:
    code, side = body["code"], body["side"]
    return Segment(**{**body, "code": Code(**code) if code else None, "side": Side(side) if side else None})


def _mask_ref(body: Json | None) -> MaskRef | None:
    return MaskRef(**{**body, "ref": InstanceRef(**body["ref"])}) if body else None


def _place(body: Json) -> Place:
    point = body["point"]
    return Place(
        **{
            **body,
            "region": _region(body["region"]),
            "point": Point(**{**point, "ref": InstanceRef(**point["ref"])}) if point else None,
            "extent": _extent(body.get("extent")),
        }
    )


def _support(body: Json) -> Support:
    image = body["image"]
    return Support(
        **{
            **body,
            "image": InstanceRef(**image) if image else None,
            "region": _region(body["region"]),
        }
    )


def _prior(body: Json | None) -> PriorStudy | None:
    if body is None:
        return None
    day = body["study_date"]
    return PriorStudy(body["study_instance_uid"], date.fromisoformat(day) if day else None)


def _region(body: Json | None) -> Region | None:
    return Region(**{**body, "ref": InstanceRef(**body["ref"])}) if body else None


def _extent(body: Json | None) -> Extent | None:
    """None for answers that were stored before there were extents."""
    if not body:
        return None
    planes = tuple((InstanceRef(**ref), frame) for ref, frame in body["planes"])
    return Extent(**{**body, "planes": planes})


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON" + (" (a dataclass)" if is_dataclass(value) else ""))
