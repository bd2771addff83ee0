"""A small data set of simulated films for evaluation: every scored task, in English and Chinese where it has words."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.simulation.film import MAX_VALUE, SimulatedFilm, render
from models.simulation.phrases import KINDS, FindingFact
from models.simulation.task_texts import headed, join_text, write_report
from models.simulation.task_words import NAMES, NORMAL

TARGETS = ("pleural_effusion", "nodule", "pneumothorax")


def write_films(folder: Path, count: int, size: int = 256) -> list[SimulatedFilm]:
    """Write ``images/N.png`` for each of ``count`` simulated films, from 1, and give them."""
    (folder / "images").mkdir(parents=True)
    films = [render(number, size=size, held_out=True) for number in range(count)]
    for number, film in enumerate(films, 1):
        grey = np.rint(film.pixels * (255 / MAX_VALUE)).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{number}.png")
    return films


def write_data_set(folder: Path, count: int, size: int = 256) -> Path:
    """Write ``data.jsonl`` with the films it names; gives its path."""
    films = write_films(folder, count, size)
    records = [record for number, film in enumerate(films, 1) for record in _records(number, film)]
    file = folder / "data.jsonl"
    file.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in records) + "\n", "utf-8")
    return file


def _records(number: int, film: SimulatedFilm) -> Iterator[dict[str, Any]]:
    present = {finding.kind for finding in film.findings}
    for language in ("en", "zh"):
        names = NAMES[language]

        def record(task: str, reference: Any, *, language: str = language, **fields: Any) -> dict[str, Any]:
            return {
                "id": f"{number}-{task}-{language}{fields.get('target', '')}", "study": str(number),
                "split": "test", "images": [f"images/{number}.png"], "views": ["PA"], "task": task,
                "language": language, "reference": reference, **fields,
            }  # fmt: skip

        findings, impression = _texts(language, [finding.fact for finding in film.findings])
        yield record("report", f"{findings}\n{impression}")
        for target in TARGETS:
            boxes = [list(one.box) for one in film.findings if one.kind == target]
            yield record("detect", {"boxes": boxes}, target=names[target])
        yield record(
            "classify",
            {"labels": [names[kind] for kind in KINDS if kind in present] or [names[NORMAL]]},
            labels=[names[kind] for kind in (*KINDS, NORMAL)],
        )
    asked = {"en": ("Is there a nodule?", ("Yes.", "No.")), "zh": ("有结节吗？", ("是。", "否。"))}
    question, (yes, no) = asked["en"]
    yield {
        "id": f"{number}-vqa", "study": str(number), "split": "test", "images": [f"images/{number}.png"],
        "views": ["PA"], "task": "vqa", "question": question, "reference": yes if "nodule" in present else no,
    }  # fmt: skip


def _texts(language: str, facts: list[FindingFact]) -> tuple[str, str]:
    findings, impression = write_report(facts, language, random.Random(0))
    return (
        headed("findings", join_text([text for text, _ in findings], language), language),
        headed("impression", join_text(impression, language), language),
    )
