"""One site, two models: films of the chest are drafted by [model], CT by the model of its route."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands.simulate import simulate
from flows.environment.site_models import site_routes
from flows.environment.workplace import Workplace
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings, load
from tests.ct_series import stack, write_series
from tests.faulty_endpoint import faulty_endpoint
from tests.servers import orthanc, store_over_rest
from tests.sites import rows, sweep, troubles, write_site

ROUTE = '[[routes]]\nmodalities = ["CT"]\nmodel = "served"\n'


def test_a_ct_goes_to_its_route_and_a_film_to_the_model(database_url: str, tmp_path: Path) -> None:
    films = [path for study in simulate(2, tmp_path / "films", seed=5).studies for path in study.paths]
    planes = write_series(tmp_path / "ct", stack(6, rows=64, columns=64))
    with orthanc(tmp_path / "orthanc") as peer, faulty_endpoint() as server:
        store_over_rest(peer, *films, *planes)
        archive = {"main": {"kind": "dicomweb", "url": peer.dicomweb}}
        served = {
            "models.served": {"id": "openai-endpoint", "accept_use_limits": True},
            "models.served.endpoint": {"url": server.url, "model": "served"},
        }
        config = write_site(tmp_path / "site", database_url, archive, **served)
        config.write_text(config.read_text() + ROUTE)
        first = sweep(config)
        assert (first.discovered, first.reported) == (3, 3), troubles(database_url)
        again = sweep(config)
        assert (again.unchanged, again.reported) == (3, 0)
        assert len(server.bodies) == 1, "films were not sent"
    drafted = drafts(database_url)
    assert sorted(drafted) == ["firstread-mini", "openai-endpoint"]
    recipes = rows(database_url, "SELECT DISTINCT recipe FROM firstread.ledger")
    assert len(recipes) == 1, "one recipe for the site"


def drafts(database_url: str) -> list[str]:
    """The model that each Device names."""
    query = "SELECT body FROM firstread.resource WHERE resource_type = 'Device'"
    bodies = [json.loads(one) if isinstance(one, str) else one for (one,) in rows(database_url, query)]
    return [
        next(word for word in ("openai-endpoint", "firstread-mini") if word in json.dumps(one))
        for one in bodies
    ]


def routed(*tables: dict[str, Any], **models: Any) -> Settings:
    return Settings.model_validate({"models": models, "routes": tables})


CT = {"modalities": ["ct"], "model": "served"}
SERVED = {"id": "openai-endpoint", "accept_use_limits": True}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (routed(CT), "unknown-model"),
        (routed(CT, served={"id": "firstread-mini"}), "route-unread"),
        (routed({"modalities": ["US"], "model": "served"}, served={"id": "umit"}), "route-unread"),
        (routed({"modalities": ["CT", "MRI"], "model": "served"}, served=SERVED), "route-unread"),
        (routed(CT, CT, served=SERVED), "route-twice"),
        (routed(CT, {"modalities": ["MR"], "model": "served"}, served=SERVED), "route-twice"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused_at_the_start(settings: Settings, code: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Workplace(settings)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("modality", "read"),
    [
        ("us", ["ultrasound (US), at most 8", "cine (US), at most 32"]),
        ("XA", ["slices (XA), at most 32", "cine (XA), at most 32"]),  # rotational angiographies are volumes
    ],
)
def test_a_route_takes_what_its_model_reads_of_its_modalities(
    modality: str, read: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text('[models.served]\nid = "openai-endpoint"\n' + ROUTE.replace('"CT"', f'"{modality}"'))
    (route,) = site_routes(load(path))
    assert [str(one) for one in route.accepts] == read
