"""The first validation: the pydantic models of ``fhir.resources.R4B``, each distinct fragment once.

Validating a resource spends nearly all its time on elements that repeat (labels, codes, the reference to the
patient in every Observation). Elements are therefore validated from the inside out and remembered by their
content: the same bytes under the same type are the same verdict. Whatever changed is validated anew.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, get_args

import orjson
from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, ValidationError

_REMEMBERED = 1024
_ANY = ("Resource", "Element")


def validated(resource_type: str, body: Mapping[str, Any]) -> BaseModel:
    """The resource as a model. Raises ValidationError; ValueError or KeyError for an unknown type."""
    model: type[BaseModel] = get_fhir_model_class(resource_type)
    try:
        return model.model_validate(_with_models(model, body))
    except ValidationError:
        model.model_validate(body)  # raises again, with the path from the resource down
        raise


def _with_models(model: type[BaseModel], body: Mapping[str, Any]) -> dict[str, Any]:
    kinds = _kinds(model)
    return {
        name: _inner(kinds[name], value) if name in kinds and value.__class__ in (dict, list) else value
        for name, value in body.items()
    }


def _inner(kind: type[BaseModel], value: Any) -> Any:
    if type(value) is dict:
        return _fragment(kind, orjson.dumps(value))
    return [_fragment(kind, orjson.dumps(one)) if type(one) is dict else one for one in value]


@lru_cache(maxsize=_REMEMBERED)
def _fragment(model: type[BaseModel], encoded: bytes) -> BaseModel:
    return model.model_validate(_with_models(model, orjson.loads(encoded)))


@cache
def _kinds(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """The elements of a type that are complex themselves, by JSON name, with their models."""
    kinds = {}
    for name, field in model.model_fields.items():
        kind = _complex(field.annotation)
        if kind is not None and kind.__name__ not in _ANY:
            kinds[field.alias or name] = kind
    return kinds


def _complex(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation names somewhere inside, or None for a primitive."""
    if hasattr(annotation, "get_model_klass"):
        named: type[BaseModel] = annotation.get_model_klass()
        return named
    return next((found for one in get_args(annotation) if (found := _complex(one))), None)
