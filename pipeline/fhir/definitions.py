"""The trimmed R4 definitions as values; ``r4/derive.py`` tells how the file was made."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class ElementDefinition:
    """One element of a type. ``names`` are its JSON names, one for each type that a choice allows.

    ``targets`` are the resource types a Reference may point to, empty for any; ``codes`` are the codes of a
    required binding by system, empty where there is none.
    """

    names: Mapping[str, str]
    required: bool
    repeats: bool
    targets: frozenset[str]
    codes: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Definitions:
    """Types (resources, data types, backbones by path), patterns of primitives, codes of known systems.

    ``loinc`` holds the names that the specification's value sets give the LOINC codes of our table.
    """

    types: Mapping[str, tuple[ElementDefinition, ...]]
    primitives: Mapping[str, str]
    code_systems: Mapping[str, frozenset[str]]
    loinc: Mapping[str, tuple[str, ...]]


@cache
def load() -> Definitions:
    """Read the file, once per process."""
    packed = files("pipeline.fhir.r4").joinpath("definitions.json.gz").read_bytes()
    told: dict[str, Any] = json.loads(gzip.decompress(packed))
    value_sets = {
        url: {system: frozenset(codes) for system, codes in systems.items()}
        for url, systems in told["value_sets"].items()
    }
    types = {
        name: tuple(_element(key, entry, value_sets) for key, entry in elements.items())
        for name, elements in told["types"].items()
    }
    systems = {url: frozenset(codes) for url, codes in told["code_systems"].items()}
    loinc = {code: tuple(names) for code, names in told["loinc"].items()}
    return Definitions(types, told["primitives"], systems, loinc)


def _element(
    key: str, entry: Mapping[str, Any], value_sets: Mapping[str, Mapping[str, frozenset[str]]]
) -> ElementDefinition:
    stem = key.removesuffix("[x]")
    names = {stem: entry["types"][0]}
    if key != stem:
        names = {f"{stem}{kind[0].upper()}{kind[1:]}": kind for kind in entry["types"]}
    return ElementDefinition(
        names=names,
        required=entry["min"] > 0,
        repeats=entry["max"] != "1",
        targets=frozenset(entry.get("targets", ())),
        codes=value_sets[entry["codes"]] if "codes" in entry else {},
    )
