"""What our resources use beside the standard, as FHIR says it: extensions, code systems, a search parameter.

The canonicals are URNs, so that they are the same at every site; each server gives them by ``url`` and by id, and
docs/definitions has them as files: ``python -m pipeline.fhir.published docs/definitions`` writes them. R4 sections 5.3
(StructureDefinition) and 2.4 (extensions).
"""

import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from pipeline.fhir.answers import EXTENT, MASK, PLANE, POINT, SCHEMA, TASK_SYSTEM
from pipeline.fhir.codes import FINDING_SYSTEM
from pipeline.fhir.elements import Body
from pipeline.fhir.observations import REGION, SUPPORT

VERSION: Final = "1.0.0"
_DATE: Final = "2026-11-30"
_BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM_TYPE: Final = "http://hl7.org/fhirpath/System.String"
_COMPONENT: Final = "Observation.component"
STUDY_UID: Final = "urn:firstread:SearchParameter:study-uid"


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of an extension: its url, its type or the profile that it is of, how often, and what it says."""

    name: str
    kind: str
    says: str
    most: str = "1"
    least: int = 0


_IMAGE: Final = (
    _Part("sopInstanceUid", "id", "SOP Instance UID of the image (PS3.3 C.12.1), without urn:oid:", least=1),
    _Part("seriesInstanceUid", "id", "Series Instance UID of the image, without urn:oid:", least=1),
)
_FRAME: Final = _Part("frame", "positiveInt", "Frame of the image, counted from 1 as in DICOM", least=1)


def _edge(name: str, says: str) -> _Part:
    return _Part(name, "decimal", f"{says}, in pixels of the stored image, x to the right, y down", least=1)


_BOX: Final = (
    _edge("x0", "Left edge"),
    _edge("y0", "Upper edge"),
    _edge("x1", "Right edge"),
    _edge("y1", "Lower edge"),
)


@cache
def published() -> tuple[Body, ...]:
    """Every definition, each valid R4."""
    return (
        *_places(),
        _support(),
        _extension(
            SCHEMA,
            "Answer schema",
            "SHA-256, in hexadecimal, of the JSON Schema under which a structured answer is valid.",
            ("Observation",),
            (),
            value="string",
        ),
        _code_system(
            FINDING_SYSTEM,
            "Finding",
            "Kinds of findings that a draft states. Other kinds are named by their text.",
            _named("findings.toml"),
            "fragment",
        ),
        _code_system(TASK_SYSTEM, "Task", "What a site asks of a model.", _named("tasks.toml")),
        _study_uid(),
    )


def _places() -> tuple[Body, ...]:
    """Where on the images a thing is: a region, a point, a segment of a mask, an extent through planes."""
    return (
        _extension(
            REGION,
            "Region",
            "A box on an image on which a finding or an answer rests. R4 has no ImagingSelection.",
            ("Observation", _COMPONENT),
            (*_IMAGE, _FRAME, *_BOX),
            within=(SUPPORT,),
        ),
        _extension(
            POINT,
            "Point",
            "A point on an image on which an answer rests.",
            (_COMPONENT,),
            (*_IMAGE, _FRAME, _edge("x", "Place from the left"), _edge("y", "Place from above")),
        ),
        _mask(),
        _extension(
            PLANE,
            "Plane",
            "A plane of a series: an instance and its frame.",
            (),
            (*_IMAGE, _FRAME),
            within=(EXTENT,),
        ),
        _extension(
            EXTENT,
            "Extent",
            "A box through planes of a series on which an answer rests; named are the planes that the model was shown.",
            (_COMPONENT,),
            (_Part(PLANE, "Extension", "A plane that the box goes through", most="*", least=1), *_BOX),
        ),
    )


def _mask() -> Body:
    keeps = "of the Segmentation, without urn:oid:"
    return _extension(
        MASK,
        "Mask",
        "A segment of a DICOM Segmentation that this server keeps, whose volume a component tells.",
        (_COMPONENT,),
        (
            _Part("sopInstanceUid", "id", f"SOP Instance UID {keeps}", least=1),
            _Part("seriesInstanceUid", "id", f"Series Instance UID {keeps}", least=1),
            _Part("segment", "positiveInt", "Segment Number (0062,0004) in it", least=1),
            _Part("sha256", "string", "SHA-256 of its file, in hexadecimal", least=1),
        ),
    )


def _support() -> Body:
    return _extension(
        SUPPORT,
        "Support",
        "What one sentence of a drafted section rests on: a region, an image alone, or the text that it repeats.",
        ("Observation",),
        (
            _Part("sentence", "string", "The sentence, as it stands in the section", least=1),
            _Part(REGION, "Extension", "The region that it rests on"),
            *(_Part(one.name, one.kind, f"{one.says}; where no region is known") for one in _IMAGE),
            _Part("source", "string", "The section whose text it repeats, where it rests on no image"),
        ),
    )


def _head(kind: str, url: str, title: str, says: str) -> Body:
    identifier = url.rsplit(":", 1)[1]
    return {
        "resourceType": kind,
        "id": identifier,
        "url": url,
        "version": VERSION,
        "name": "Firstread" + "".join(word.capitalize() for word in title.split()),
        "title": title,
        "status": "active",
        "date": _DATE,
        "publisher": "Firstread",
        "description": says,
    }


def _extension(
    url: str,
    title: str,
    says: str,
    elements: Sequence[str],
    parts: Sequence[_Part],
    *,
    value: str = "",
    within: Sequence[str] = (),
) -> Body:
    """A StructureDefinition of an extension with parts, or of one with a value."""
    body = _head("StructureDefinition", url, title, says)
    del body["title"]
    snapshot = [_element("Extension", "", says, 0, "*", base="Extension"), *_inherited("Extension")]
    if parts:
        snapshot[-1] |= {
            "slicing": {"discriminator": [{"type": "value", "path": "url"}], "rules": "closed"},
            "min": sum(one.least for one in parts),
        }
        for part in parts:
            snapshot += _slice(part)
    else:
        snapshot[-1] |= {"max": "0"}
    snapshot.append(_url("Extension.url", url))
    snapshot.append(
        _element(
            "Extension.value[x]",
            "",
            says,
            int(bool(value)),
            "1" if value else "0",
            [value] if value else ["string"],
        )
    )
    return body | {
        "title": title,
        "fhirVersion": "4.0.1",
        "kind": "complex-type",
        "abstract": False,
        "context": [
            *({"type": "element", "expression": one} for one in elements),
            *({"type": "extension", "expression": one} for one in within),
        ],
        "type": "Extension",
        "baseDefinition": f"{_BASE}Extension",
        "derivation": "constraint",
        "snapshot": {"element": snapshot},
        "differential": {"element": [_changed(one) for one in snapshot]},
    }


def _slice(part: _Part) -> list[Body]:
    """The elements of one part."""
    name = part.name.rsplit(":", 1)[-1]
    root = f"Extension.extension:{name}"
    head = _element("Extension.extension", root, part.says, part.least, part.most, ["Extension"])
    head["sliceName"] = name
    if part.kind == "Extension":
        head["type"] = [{"code": "Extension", "profile": [part.name]}]
        return [head]
    inner = _inherited(root)
    inner[-1]["max"] = "0"
    return [
        head,
        *inner,
        _url(f"{root}.url", part.name),
        _element("Extension.extension.value[x]", f"{root}.value[x]", part.says, 1, "1", [part.kind]),
    ]


def _inherited(root: str) -> list[Body]:
    """The id and the extensions that every extension has."""
    path = root.split(":", 1)[0]
    identifier = _element(f"{path}.id", f"{root}.id", "Id of the element", 0, "1")
    identifier["representation"] = ["xmlAttr"]
    identifier["type"] = [
        {
            "extension": [{"url": f"{_BASE}structuredefinition-fhir-type", "valueUrl": "string"}],
            "code": _SYSTEM_TYPE,
        }
    ]
    return [identifier, _element(f"{path}.extension", f"{root}.extension", "Parts", 0, "*", ["Extension"])]


def _url(identifier: str, url: str) -> Body:
    path = ".".join(part.split(":", 1)[0] for part in identifier.split("."))
    element = _element(path, identifier, "Names this extension", 1, "1")
    element["representation"] = ["xmlAttr"]
    element["type"] = [
        {
            "extension": [{"url": f"{_BASE}structuredefinition-fhir-type", "valueUrl": "uri"}],
            "code": _SYSTEM_TYPE,
        }
    ]
    return element | {"fixedUri": url}


def _element(
    path: str,
    identifier: str,
    says: str,
    least: int,
    most: str,
    kinds: Iterable[str] = (),
    *,
    base: str = "",
) -> Body:
    known = {"id": (0, "1"), "extension": (0, "*"), "url": (1, "1"), "value[x]": (0, "1")}
    last = path.rsplit(".", 1)[-1]
    lower, upper = known.get(last, (0, "*"))
    element: Body = {
        "id": identifier or path,
        "path": path,
        "short": says,
        "definition": says,
        "min": least,
        "max": most,
        "base": {
            "path": base
            or {"id": "Element.id", "extension": "Element.extension"}.get(last, f"Extension.{last}"),
            "min": lower,
            "max": upper,
        },
    }
    if types := [{"code": kind} for kind in kinds]:
        element["type"] = types
    return element


def _changed(element: Body) -> Body:
    """An element of the differential: without what only a snapshot has."""
    return {
        name: value for name, value in element.items() if name not in ("base", "definition", "representation")
    }


def _named(table: str) -> Mapping[str, Mapping[str, str]]:
    told = tomllib.loads(files("pipeline.fhir").joinpath(table).read_text("utf-8"))
    return {code: {"en": entry["en"], "zh": entry["zh"]} for code, entry in told.items()}


def _code_system(
    url: str, title: str, says: str, codes: Mapping[str, Mapping[str, str]], content: str = "complete"
) -> Body:
    return _head("CodeSystem", url, title, says) | {
        "caseSensitive": True,
        "content": content,
        "concept": [
            {"code": code, "display": names["en"], "designation": [{"language": "zh", "value": names["zh"]}]}
            for code, names in codes.items()
        ],
    }


def _study_uid() -> Body:
    body = _head(
        "SearchParameter",
        STUDY_UID,
        "Study UID",
        "Study Instance UID of the DICOM study, plain or as urn:oid:. R4 has no search parameter from "
        "DiagnosticReport to its ImagingStudy (R5 has).",
    )
    del body["title"]
    return body | {
        "code": "study-uid",
        "base": ["DiagnosticReport"],
        "type": "token",
        "expression": "DiagnosticReport.imagingStudy.resolve().identifier",
    }


if __name__ == "__main__":
    for one in published():
        name = f"{one['resourceType']}-{one['id']}.json"
        Path(sys.argv[1], name).write_text(
            json.dumps(one, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
