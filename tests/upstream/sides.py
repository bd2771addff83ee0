"""What one side of a comparison gives, and the films that both are shown."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from models.family import SeenImage
from pipeline.study import InstanceRef

SEEN = SeenImage(InstanceRef("1.2", "1.2.1", "1.2.1.1"), 0, 512, 512)


@dataclass(frozen=True, slots=True)
class Made:
    """Arrays by name, token ids by the name of what was asked, and limits by name; all that theirs has is compared."""

    arrays: Mapping[str, Any]
    ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Side:
    """``prepare`` writes weights and questions into a folder; ``make`` gives ours, theirs being there already."""

    prepare: Callable[[Path], None]
    make: Callable[[Path], Made]


def films(work: Path) -> dict[str, Any]:
    """The films, as RGB, by name."""
    return {path.stem: Image.open(path).convert("RGB") for path in sorted((work / "films").glob("*.png"))}


def write_older_tokenizer(folder: Path) -> None:
    """Write the tokenizer of a folder as tokenizers before 0.20 did, which read no pairs."""
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["model"]["merges"] = [" ".join(pair) for pair in stored["model"]["merges"]]
    path.write_text(json.dumps(stored))
