"""The recipe: one digest over everything that shapes a draft (docs/design.md#the-ledger)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """``parts`` are digests and versions by name: weights, graphs, engine, runner, prompts, schema, language, code."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the parts, whatever their order."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()
