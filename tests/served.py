"""Model families behind the faulty endpoint, with a patience that suits tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.catalog import show
from models.families.endpoint.endpoint_family import EndpointFamily
from models.families.registry import open_family
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.study import ImageSet
from tests.faulty_endpoint import FaultyEndpoint
from tests.tiny_model import film_study

SCHEMA = '{"type": "object", "properties": {"effusion": {"type": "boolean"}}, "required": ["effusion"]}'


def quick_options(url: str, **changes: Any) -> EndpointOptions:
    """How a server that answers at once is asked."""
    quick = EndpointOptions(url, "served", connect_timeout=2, read_timeout=1, total_timeout=5)
    return replace(quick, **changes)


def open_served(model_id: str, server: FaultyEndpoint, **changes: Any) -> EndpointFamily:
    """The family ``model_id`` behind ``server``."""
    options = quick_options(server.url, **changes)
    family = open_family(
        show(model_id), ModelChoice(model_id, accept_use_limits=True, endpoint=options), Path("unused")
    )
    assert isinstance(family, EndpointFamily)
    return family


def sent_text(server: FaultyEndpoint) -> str:
    """The last request's user turn as one text, with <image> where an image stood."""
    content = server.bodies[-1]["messages"][-1]["content"]
    return "".join(part.get("text", "<image>") for part in content)


def two_films() -> ImageSet:
    """A study of a lateral and a frontal film, in this order."""
    frontal, lateral = film_study(1).images[0], film_study(2, view="LL").images[0]
    return ImageSet("1.2.1", (lateral, frontal))
