"""What every answer of the FHIR REST is checked for."""

import json
from typing import Any

import httpx
from fhir.resources.R4B import get_fhir_model_class


def checked(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The resource of an answer, valid R4 and sent as FHIR JSON."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    resource: dict[str, Any] = json.loads(answer.text)
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    return resource


def ids(bundle: dict[str, Any]) -> list[str]:
    """The ids of a bundle's resources, in its order."""
    return [entry["resource"]["id"] for entry in bundle.get("entry", ())]


def next_of(bundle: dict[str, Any]) -> str:
    """The address of a bundle's next page, "" on the last."""
    return next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
