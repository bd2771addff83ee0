"""Observations of what a model answered to a site's tasks, one for each answer.

The code is the task's, in ``TASK_SYSTEM``: no checked LOINC code says "what a model answered". The value is the
class chosen, else the JSON of a structured answer, else the text. Each class scored and each place found is a
component: a class with ``valueBoolean`` (chosen), a place with ``valueString`` (what was said of it) or
``valueBoolean`` (there or not), its confidence, and its ``REGION`` (observations.py) or ``POINT``. ``POINT`` holds,
each as an extension, ``sopInstanceUid``, ``seriesInstanceUid`` and ``frame`` as ``REGION`` does, and ``x`` and ``y``
(valueDecimal, pixels of the stored image, x to the right, y down). ``EXTENT`` has the planes of a box through several,
each a ``PLANE``, and the box's edges as ``REGION`` has them. ``SCHEMA`` (valueString) is the SHA-256 of the JSON
Schema that a structured answer is valid under.

Each structure of a segmentation is a component: its SNOMED CT code where a checked one is known, ``valueQuantity`` in
mL (UCUM), and ``MASK``: ``sopInstanceUid`` and ``seriesInstanceUid`` of our Segmentation, ``segment``
(valuePositiveInt, its Segment Number there) and ``sha256`` of its file.
"""

import math
from collections import Counter

from pipeline.errors import FailStudy
from pipeline.fhir.elements import SNOMED, UCUM, Body, clean, coding, concept, single_spaced
from pipeline.fhir.narrative import answer_lines, observation_narrative, task_name, task_title, words
from pipeline.fhir.observations import Run, confidence_extension, image_extensions, region_extension, shared
from pipeline.report import DraftReport, Extent, Label, Language, MaskRef, Place, Point, Segment, TaskAnswer

TASK_SYSTEM = "urn:firstread:task"
LABEL_SYSTEM = "urn:firstread:label"
POINT = "urn:firstread:StructureDefinition:point"
MASK = "urn:firstread:StructureDefinition:mask"
EXTENT = "urn:firstread:StructureDefinition:extent"
PLANE = "urn:firstread:StructureDefinition:plane"
SCHEMA = "urn:firstread:StructureDefinition:answer-schema"


def answer_observations(draft: DraftReport, run: Run) -> tuple[Body, ...]:
    """One Observation for each answer, in order. Raises FailStudy for an answer that FHIR cannot hold."""
    seen: Counter[str] = Counter()
    bodies = []
    for answer in draft.answers:
        key = clean(f"answer:{answer.task}:{answer.language}:{answer.model_id}:{answer.question}")
        bodies.append(_observation(draft, run, answer, f"{key}:{seen[key]}"))
        seen[key] += 1
    return tuple(bodies)


def _observation(draft: DraftReport, run: Run, answer: TaskAnswer, key: str) -> Body:
    language = answer.language
    title = task_title(answer)
    code = concept(
        coding(TASK_SYSTEM, single_spaced(answer.task), task_name(answer.task, Language.ENGLISH)), text=title
    )
    body = shared(draft, run, key, code, title)
    body["language"] = language.value
    body["text"] = observation_narrative(language, "\n".join((title, *answer_lines(answer))))
    body |= _value(answer)
    if answer.structured and answer.schema_digest:
        body["extension"] = [{"url": SCHEMA, "valueString": answer.schema_digest}]
    if notes := _notes(answer):
        body["note"] = [{"text": note} for note in notes]
    segments = (_measured(one, answer.mask_ref, language) for one in answer.segments)
    if components := [*map(_class, answer.labels), *map(_found, answer.places), *segments]:
        body["component"] = components
    return body


def _value(answer: TaskAnswer) -> Body:
    chosen = [label.name for label in answer.labels if label.chosen]
    if names := "; ".join(clean(name) for name in chosen):
        codings = [_label_coding(chosen[0])] if len(chosen) == 1 else []
        return {"valueCodeableConcept": concept(*codings, text=names)}
    text = clean(answer.structured) or clean(answer.text)
    return {"valueString": text} if text else {}


def _notes(answer: TaskAnswer) -> list[str]:
    said = words(answer.language)
    notes = [said["truncated"]] if answer.truncated else []
    if model := clean(answer.model_id):
        notes.append(said["answered_by"].format(model=model))
    return notes


def _class(label: Label) -> Body:
    body: Body = {"code": concept(_label_coding(label.name), text=clean(label.name))}
    body["valueBoolean"] = label.chosen
    if extensions := confidence_extension(label.probability):
        body["extension"] = extensions
    return body


def _measured(segment: Segment, mask: MaskRef | None, language: Language) -> Body:
    code = segment.code
    codings = [coding(SNOMED, single_spaced(code.value), clean(code.meaning))] if code else []
    volume = {"value": round(segment.volume_ml, 3), "unit": "mL", "system": UCUM, "code": "mL"}
    body: Body = {
        "code": concept(*codings, text=words(language)["volume"].format(name=clean(segment.name) or "?")),
        "valueQuantity": volume,
    }
    if mask is not None and segment.number:
        parts = [*image_extensions(mask.ref), {"url": "segment", "valuePositiveInt": segment.number}]
        parts.append({"url": "sha256", "valueString": mask.sha256})
        body["extension"] = [{"url": MASK, "extension": parts}]
    return body


def _found(place: Place) -> Body:
    body: Body = {"code": concept(text=clean(place.name) or "?")}
    if text := clean(place.text):
        body["valueString"] = text
    else:
        body["valueBoolean"] = (place.region or place.point or place.extent) is not None
    extensions = confidence_extension(place.confidence)
    if place.region is not None:
        extensions += region_extension(place.region)
    if place.point is not None:
        extensions.append(_point(place.point))
    if place.extent is not None:
        extensions.append(_extent(place.extent))
    if extensions:
        body["extension"] = extensions
    return body


def _point(point: Point) -> Body:
    if not (math.isfinite(point.x) and math.isfinite(point.y)) or min(point.x, point.y) < 0:
        raise FailStudy("region-range", "a point lies outside its image; look at the model")
    at = [{"url": name, "valueDecimal": round(edge, 2)} for name, edge in (("x", point.x), ("y", point.y))]
    return {"url": POINT, "extension": [*image_extensions(point.ref, point.frame), *at]}


def _extent(extent: Extent) -> Body:
    """The planes by name, then the box that is the same on each."""
    on_planes = extent.on_planes()
    if not on_planes:
        raise FailStudy("region-range", "an extent lies on no plane; look at the model")
    (region,) = region_extension(on_planes[0])
    edges = [part for part in region["extension"] if part["url"] in ("x0", "y0", "x1", "y1")]
    planes = [{"url": PLANE, "extension": image_extensions(ref, frame)} for ref, frame in extent.planes]
    return {"url": EXTENT, "extension": [*planes, *edges]}


def _label_coding(name: str) -> Body:
    return coding(LABEL_SYSTEM, single_spaced(name) or "?")
