"""A CT travels from Orthanc through a served model to FHIR and the page; a model of films refuses it, unfetched."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ct_series import stack, write_series
from tests.faulty_endpoint import faulty_endpoint
from tests.servers import free_port, orthanc, store_over_rest
from tests.sites import firstread, rows, summary, sweep, troubles, write_site

PLANES, SHOWN = 40, 32


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty planes of 160 x 160, stored from head to feet, numbers from head to feet."""
    return write_series(
        tmp_path_factory.mktemp("ct"),
        stack(PLANES, step=(0, 0, -2.0), origin=(-60, -60, 40), rows=160, columns=160),
    )


def served(url: str) -> dict[str, Any]:
    return {
        "model": {"id": "openai-endpoint", "accept_use_limits": True},
        "model.endpoint": {"url": url, "model": "served"},
    }


@pytest.mark.parametrize("way", ["dicomweb", "c-move", "c-get"])
def test_a_ct_is_drafted_from_planes_of_one_series(
    way: str, ct: list[Path], database_url: str, tmp_path: Path
) -> None:
    move_port = free_port()
    with orthanc(tmp_path / "orthanc", move_port=move_port) as peer, faulty_endpoint() as server:
        store_over_rest(peer, *ct)
        archive: dict[str, object] = {"kind": "dicomweb", "url": peer.dicomweb}
        if way != "dicomweb":
            archive = {
                "kind": "dimse", "host": "127.0.0.1", "port": peer.port, "ae_title": peer.ae_title,
                "move_port": move_port, "retrieve": way.removeprefix("c-"),
            }  # fmt: skip
        config = write_site(tmp_path, database_url, {"main": archive}, **served(server.url))
        assert sweep(config).reported == 1, troubles(database_url)
        assert sweep(config).unchanged == 1
        (body,) = server.bodies
    pictures = [np.asarray(Image.open(io.BytesIO(one))) for one in sent(body)]
    assert (len(pictures), pictures[0].shape) == (SHOWN, (160, 140)), "square pixels"
    # values grow with z, so feet-to-head order is darker-to-brighter, and with y, downwards in an upright picture
    assert all(np.diff([one.mean() for one in pictures]) > 0)
    assert pictures[0][-1].mean() > pictures[0][0].mean()
    (report,) = [
        json.loads(one) if isinstance(one, str) else one
        for (one,) in rows(
            database_url, "SELECT body FROM firstread.resource WHERE resource_type = 'DiagnosticReport'"
        )
    ]
    assert report["status"] in ("partial", "preliminary")
    page = json.dumps(report)
    assert f"{SHOWN} of {PLANES} axial planes" in page
    assert "not checked for this kind of image" in page
    assert rows(database_url, "SELECT count(*) FROM firstread.preview") == [(12,)]


def test_a_model_of_films_refuses_a_ct_unfetched_in_words(
    ct: list[Path], database_url: str, tmp_path: Path
) -> None:
    with orthanc(tmp_path / "orthanc") as peer:
        store_over_rest(peer, *ct)
        config = write_site(tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}})
        done = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
        assert summary(done)["skipped"] == 1, done.stderr
    ((code, message, held),) = rows(database_url, "SELECT code, reason, held FROM firstread.ledger")
    assert (code, held) == ("not-radiograph", 0)
    assert "a CT" in message


def sent(body: dict[str, Any]) -> list[bytes]:
    """The pictures of a chat, decoded."""
    parts = [
        part for turn in body["messages"] if isinstance(turn["content"], list) for part in turn["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2]) for url in urls]
