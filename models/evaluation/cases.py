"""Data sets as cases: a JSONL of our own, the annotation file of IU-Xray/R2Gen, and ReXrank's JSON.

Nothing is guessed: a record that is broken stops the reading with the file's name, its place and what is wrong.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from models.evaluation.documents import read_values
from models.family import TEXT_TASKS, PromptContext, Task
from pipeline.errors import ConfigurationError
from pipeline.report import Language

Box = tuple[float, float, float, float]
_CONTEXT = ("indication", "technique", "comparison", "prior_report")
_FIELDS = frozenset(
    (
        *("id", "study", "images", "views", "task", "language", "question", "labels", "options", "target"),
        *("region", "text", "schema", "context", "reference", "split"),
    )
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What is held to be true of a case. ``boxes`` and ``points`` are in pixels of the original image, of the first
    image of the case; ``labels`` of a classification, or what the region of an identification is.

    No boxes or labels at all is (); None says that nobody looked for them.
    """

    text: str = ""
    labels: tuple[str, ...] | None = None
    boxes: tuple[Box, ...] | None = None
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its reference; intervals are drawn over ``study``."""

    id: str
    study: str
    images: tuple[Path, ...]
    views: tuple[str, ...]
    task: Task
    language: Language
    reference: Reference
    split: str
    question: str = ""
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    target: str = ""
    region: Box | None = None
    text: str = ""
    schema: str = ""
    context: PromptContext = field(default_factory=PromptContext)


def read_cases(data: Path) -> tuple[Case, ...]:
    """Cases of a folder (its one JSONL, or annotation.json) or of a file, in order.

    Raises ConfigurationError("bad-data-set") naming the file and the record.
    """
    file = _file_of(data)
    if file.suffix == ".jsonl":
        cases = tuple(_read_lines(file))
    else:
        try:
            held = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise _bad(file, "file", f"is no JSON ({type(error).__name__})") from error
        if not isinstance(held, dict) or not held:
            raise _bad(file, "file", "holds no object of records")
        if set(held) <= {"train", "val", "test"}:
            cases = tuple(_read_r2gen(file, held))
        else:
            cases = tuple(_read_rexrank(file, held))
    if not cases:
        raise _bad(file, "file", "holds no case")
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise _bad(file, f"id {case.id!r}", "occurs twice")
        seen.add(case.id)
    return cases


def _file_of(data: Path) -> Path:
    if data.is_file():
        return data
    if not data.is_dir():
        raise ConfigurationError("bad-data-set", f"{data} does not exist: name a data set file or folder")
    found = sorted(data.glob("*.jsonl")) or sorted(data.glob("*.json"))
    if len(found) != 1:
        message = f"{data} holds {len(found)} data set files: name one JSONL or JSON file"
        raise ConfigurationError("bad-data-set", message)
    return found[0]


def _bad(file: Path, where: str, what: str) -> ConfigurationError:
    return ConfigurationError("bad-data-set", f"{file.name}, {where}: {what}; correct the record")


def _image(file: Path, where: str, name: object, folder: str = "") -> Path:
    if not isinstance(name, str) or not name:
        raise _bad(file, where, "an image is no file name")
    pure = PurePosixPath(name)
    if pure.is_absolute() or PureWindowsPath(name).drive or "\\" in name or ".." in pure.parts:
        raise _bad(file, where, "an image lies outside the data set folder")
    root = file.parent.resolve()
    path = (root / folder / pure).resolve()
    if not path.is_relative_to(root):
        raise _bad(file, where, "an image lies outside the data set folder")
    if not path.is_file():
        raise _bad(file, where, "an image does not exist")
    return path


def _texts(file: Path, where: str, record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    held = record.get(name, [])
    if not isinstance(held, list) or not all(isinstance(one, str) and one for one in held):
        raise _bad(file, where, f"{name} is no list of texts")
    return tuple(held)


def _text(file: Path, where: str, record: Mapping[str, Any], name: str, default: str = "") -> str:
    held = record.get(name, default)
    if not isinstance(held, str):
        raise _bad(file, where, f"{name} is no text")
    return held


def _numbers(file: Path, where: str, held: object, size: int, name: str) -> tuple[float, ...]:
    if (
        not isinstance(held, list)
        or len(held) != size
        or not all(
            isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < 1e6 for one in held
        )
    ):
        raise _bad(file, where, f"{name} has not {size} numbers from 0 in pixels")
    return tuple(float(one) for one in held)


def _box(file: Path, where: str, held: object, name: str) -> Box:
    x0, y0, x1, y1 = _numbers(file, where, held, 4, name)
    if x0 >= x1 or y0 >= y1:
        raise _bad(file, where, f"{name} is not x0 < x1, y0 < y1")
    return x0, y0, x1, y1


def _reference(file: Path, where: str, held: object) -> Reference:
    if isinstance(held, str):
        held = {"text": held}
    if not isinstance(held, dict) or not held or set(held) - {"text", "labels", "boxes", "points"}:
        raise _bad(file, where, "reference is no text, nor an object of text, labels, boxes, points")
    boxes, points = held.get("boxes", []), held.get("points", [])
    if not isinstance(boxes, list) or not isinstance(points, list):
        raise _bad(file, where, "boxes or points are no list")
    return Reference(
        _text(file, where, held, "text"),
        _texts(file, where, held, "labels") if "labels" in held else None,
        tuple(_box(file, where, one, "a reference box") for one in boxes) if "boxes" in held else None,
        tuple((p[0], p[1]) for p in (_numbers(file, where, one, 2, "a reference point") for one in points)),
    )


def _read_lines(file: Path) -> Iterator[Case]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise _bad(file, where, "is no JSON") from error
            if not isinstance(record, dict):
                raise _bad(file, where, "is no object")
            yield _record(file, where, record)


def _record(file: Path, where: str, record: Mapping[str, Any]) -> Case:
    if unknown := sorted(set(record) - _FIELDS):
        raise _bad(file, where, f"has unknown fields: {', '.join(unknown)[:200]}")
    try:
        task, language = Task(record.get("task", "report")), Language(record.get("language", "en"))
    except ValueError as error:
        raise _bad(file, where, "task or language is none that is known") from error
    context = record.get("context", {})
    if not isinstance(context, dict) or set(context) - set(_CONTEXT):
        raise _bad(file, where, f"context is no object of {', '.join(_CONTEXT)}")
    identity = _text(file, where, record, "id")
    if not identity:
        raise _bad(file, where, "has no id")
    images, views = _texts(file, where, record, "images"), _texts(file, where, record, "views")
    if not images and task not in TEXT_TASKS:
        raise _bad(file, where, "has no images")
    if views and len(views) != len(images):
        raise _bad(file, where, "has not one view for each image")
    labels, reference = (
        _texts(file, where, record, "labels"),
        _reference(file, where, record.get("reference")),
    )
    if task is Task.STRUCTURED and reference.text and read_values(reference.text) is None:
        raise _bad(file, where, "the reference of a structured answer is no JSON")
    known = {name.casefold() for name in labels}
    if labels and any(name.casefold() not in known for name in reference.labels or ()):
        raise _bad(file, where, "a label of the reference is none of labels")
    return Case(
        id=identity,
        study=_text(file, where, record, "study", identity) or identity,
        images=tuple(_image(file, where, name) for name in images),
        views=views or ("",) * len(images),
        task=task,
        language=language,
        reference=reference,
        split=_text(file, where, record, "split"),
        question=_text(file, where, record, "question"),
        labels=labels,
        options=_texts(file, where, record, "options"),
        target=_text(file, where, record, "target"),
        region=None if record.get("region") is None else _box(file, where, record["region"], "region"),
        text=_text(file, where, record, "text"),
        schema=_text(file, where, record, "schema"),
        context=PromptContext(**{name: _text(file, where, context, name) for name in _CONTEXT}),
    )


def _read_r2gen(file: Path, held: Mapping[str, Any]) -> Iterator[Case]:
    for split, records in held.items():
        if not isinstance(records, list):
            raise _bad(file, split, "is no list")
        for index, record in enumerate(records):
            where = f"{split}[{index}]"
            if not isinstance(record, dict):
                raise _bad(file, where, "is no object")
            identity, report = _text(file, where, record, "id"), _text(file, where, record, "report")
            paths = _texts(file, where, record, "image_path")
            if not identity or not report.strip() or not paths:
                raise _bad(file, where, "has no id, report or image_path")
            folder = "images" if (file.parent / "images").is_dir() else ""
            images = tuple(_image(file, where, name, folder) for name in paths)
            views = ("",) * len(images)
            yield Case(
                identity, identity, images, views, Task.REPORT, Language.ENGLISH, Reference(report), split
            )


def _read_rexrank(file: Path, held: Mapping[str, Any]) -> Iterator[Case]:
    for name, record in held.items():
        where = f"study {name!r}"
        if not isinstance(record, dict):
            raise _bad(file, where, "is no object")
        findings = _text(file, where, record, "section_findings")
        impression = _text(file, where, record, "section_impression")
        paths = _texts(file, where, record, "image_path")
        key = _text(file, where, record, "key_image_path")
        if not findings.strip() and not impression.strip():
            raise _bad(file, where, "has no section_findings or section_impression")
        ordered = tuple(dict.fromkeys((*((key,) if key else ()), *paths)))
        if not ordered:
            raise _bad(file, where, "has no image_path")
        tags = record.get("tags", record.get("image_tags", {}))
        if not isinstance(tags, dict):
            raise _bad(file, where, "tags is no object of image and view")
        views = tuple(
            {"frontal": "PA", "lateral": "LL"}.get(str(tags.get(path, "")).lower(), "") for path in ordered
        )
        parts = (("FINDINGS", findings.strip()), ("IMPRESSION", impression.strip()))
        text = "\n".join(f"{title}: {part}" for title, part in parts if part)
        context = PromptContext(
            indication=_text(file, where, record, "indication") or _text(file, where, record, "context")
        )
        yield Case(
            id=name,
            study=name,
            images=tuple(_image(file, where, path) for path in ordered),
            views=views,
            task=Task.REPORT,
            language=Language.ENGLISH,
            reference=Reference(text),
            split=_text(file, where, record, "split"),
            context=context,
        )
