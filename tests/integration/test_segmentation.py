"""A CT travels from Orthanc through a taught segmenter to a DICOM Segmentation, FHIR and the page."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import dcmread

from models.convert_segmenter import convert
from tests.ct_series import write_series
from tests.faulty_endpoint import faulty_endpoint
from tests.servers import free_port, orthanc, store_over_rest
from tests.sites import environment, firstread, rows, running, summary, sweep, troubles, until, write_site
from tests.taught_segmenter import BallSlice, ball_ct, taught

hd = pytest.importorskip("highdicom")
ROUTE = '[[routes]]\nmodalities = ["CT"]\nmodel = "organs"\n'
TRUE_ML = 4 / 3 * np.pi * 24.0**3 / 1000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = taught(tmp_path_factory.mktemp("segmenter"))
    convert(folder)
    return folder


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_ct_becomes_a_segmentation(kind: str, network: Path, database_url: str, tmp_path: Path) -> None:
    slices = ball_ct()
    planes = write_series(tmp_path / "ct", slices)
    truth = {
        str(dcmread(path).SOPInstanceUID): one.inside()
        for path, one in zip(planes, slices, strict=True)
        if isinstance(one, BallSlice)
    }
    organs = {"models.organs": {"id": "nnunet", "weights": str(network), "accept_use_limits": True}}
    with orthanc(tmp_path / "orthanc") as peer:
        store_over_rest(peer, *planes)
        archive = {"main": {"kind": "dicomweb", "url": peer.dicomweb}}
        page = free_port()
        tables = {"policy": {"segmentations": kind}, "serve": {"port": page}, **organs}
        config = write_site(tmp_path, database_url, archive, **tables)
        config.write_text(config.read_text() + ROUTE)
        assert sweep(config).reported == 1, troubles(database_url)
        assert sweep(config).unchanged == 1
        ((uid, content, digest),) = rows(
            database_url, "SELECT sop_instance_uid, content, sha256 FROM firstread.mask"
        )
        written = tmp_path / "mask.dcm"
        written.write_bytes(content)
        store_over_rest(peer, written)  # a PACS takes it
    compare(bytes(content), truth)
    observation, study, report = resources(database_url)
    ((found, missing),) = [observation["component"]]
    assert found["code"]["coding"][0]["code"] == "10200004"
    assert found["valueQuantity"]["code"] == "mL"
    assert abs(found["valueQuantity"]["value"] / TRUE_ML - 1) < 0.15
    assert missing["valueQuantity"]["value"] == 0
    told = {one["url"]: one for one in found["extension"][0]["extension"]}
    assert (told["sopInstanceUid"]["valueId"], told["segment"]["valuePositiveInt"]) == (uid, 1)
    assert told["sha256"]["valueString"] == digest
    own = [one for one in study["series"] if one["modality"]["code"] == "SEG"]
    assert [one["uid"] for series in own for one in series["instance"]] == [uid]
    assert study["numberOfInstances"] == len(planes) + 1
    assert "spleen" in json.dumps(report)
    check_export(config, tmp_path, uid, bytes(content))
    check_page(config, f"http://127.0.0.1:{page}", uid, bytes(content))


def test_a_task_beside_another_model_s_report_checks_it(
    network: Path, database_url: str, tmp_path: Path
) -> None:
    """The report comes from a server that speaks of a spleen; the segmenter finds a liver alone."""
    planes = write_series(tmp_path / "ct", ball_ct(12))
    tables: dict[str, Any] = {
        "model": {"id": "openai-endpoint", "accept_use_limits": True},
        "models.organs": {"id": "nnunet", "weights": str(network), "accept_use_limits": True},
    }
    with faulty_endpoint() as server:
        server.reply = lambda body: "Findings: The spleen is normal in size.\nImpression: Normal."
        tables["model.endpoint"] = {"url": server.url, "model": "served"}
        archive = {"main": {"kind": "folder", "path": str(tmp_path / "ct")}}
        config = write_site(tmp_path / "site", database_url, archive, **tables)
        config.write_text(config.read_text() + '[[tasks]]\ntask = "segment"\nmodel = "organs"\n')
        assert sweep(config).reported == 1, troubles(database_url)
    observation, study, report = resources(database_url)
    assert [one["valueQuantity"]["value"] > 0 for one in observation["component"]] == [True, False]
    assert observation["note"] == [{"text": "Answered by nnunet"}]
    assert [one["uid"] for one in study["series"] if one["modality"]["code"] == "SEG"]
    assert "describes spleen, of which the segmentation found nothing" in json.dumps(report)
    assert rows(database_url, "SELECT count(*) FROM firstread.mask") == [(1,)]
    assert len(planes) == 12


def compare(content: bytes, truth: dict[str, Any]) -> None:
    """Each frame beside the truth of the plane that it names, wherever it stands in the object."""
    mask = hd.seg.segread(io.BytesIO(content))
    assert [one.SegmentLabel for one in mask.SegmentSequence if one.SegmentNumber] == ["liver"]
    places = list(truth)
    drawn = mask.get_pixels_by_source_instance(
        places, combine_segments=True, assert_missing_frames_are_empty=True
    )
    wanted = np.stack([truth[uid] for uid in places])
    both = 2 * np.logical_and(drawn > 0, wanted).sum() / ((drawn > 0).sum() + wanted.sum())
    assert both > 0.9


def resources(database_url: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    query = "SELECT body FROM firstread.resource"
    bodies = [json.loads(one) if isinstance(one, str) else one for (one,) in rows(database_url, query)]
    (observation,) = [
        one
        for one in bodies
        if one["resourceType"] == "Observation"
        and one["code"].get("coding", [{}])[0].get("code") == "segment"
    ]
    (study,) = [one for one in bodies if one["resourceType"] == "ImagingStudy"]
    (report,) = [one for one in bodies if one["resourceType"] == "DiagnosticReport"]
    return observation, study, report


def check_export(config: Path, folder: Path, uid: str, content: bytes) -> None:
    order = ("export", "--config", str(config), "--out", str(folder / "t.jsonl"), "--json")
    refused = firstread(*order, "--segmentations", str(folder / "masks"), cwd=folder)
    assert refused.returncode == 2, "without --identifiers no file that names its patient"
    done = firstread(*order, "--identifiers", "--segmentations", str(folder / "masks"), cwd=folder)
    assert summary(done)["exported"] == 1, done.stderr
    assert (folder / "masks" / f"{uid}.dcm").read_bytes() == content


def check_page(config: Path, address: str, uid: str, content: bytes) -> None:
    command = [str(Path(sys.executable).with_name("firstread")), "serve", "--config", str(config)]
    log = config.parent / "serve.log"
    with running(command, log, cwd=config.parent, env=environment()):
        until(lambda: "review page" in log.read_text(), "the page")
        (row,) = httpx.get(f"{address}/fhir/DiagnosticReport").json()["entry"]
        shown = httpx.get(f"{address}/reports/{row['resource']['id']}").text
        assert f"/segmentations/{uid}" in shown
        assert "data:image/png;base64," in shown
        assert "no person has verified" in shown
        file = httpx.get(f"{address}/segmentations/{uid}")
        assert (file.content, file.headers["content-type"]) == (content, "application/dicom")
        assert httpx.get(f"{address}/segmentations/1.2.3").status_code == 404
