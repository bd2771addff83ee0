"""The same sweep against Orthanc by DICOMweb and by C-MOVE, and against dcmqrscp by C-MOVE."""

from pathlib import Path

import pydicom
import pytest

from flows.commands.simulate import simulate
from tests.servers import dcmqrscp, free_port, orthanc, store, store_over_rest
from tests.sites import rows, sweep, troubles, write_site

STUDIES = 6


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Simulated studies in six transfer syntaxes."""
    written = simulate(STUDIES, tmp_path_factory.mktemp("films"), seed=3)
    return [path for study in written.studies for path in study.paths]


def test_orthanc_by_dicomweb_then_late_images(films: list[Path], database_url: str, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as peer:
        store_over_rest(peer, *films)
        config = write_site(tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}})
        first = sweep(config)
        assert (first.discovered, first.reported) == (STUDIES, STUDIES), troubles(database_url)
        again = sweep(config)
        assert (again.discovered, again.unchanged, again.reported) == (STUDIES, STUDIES, 0)
        store_over_rest(peer, _late_image(films[0], tmp_path / "late.dcm"))
        late = sweep(config)
        assert (late.reported, late.unchanged) == (1, STUDIES - 1)
    versions = rows(
        database_url, "SELECT version, count(*) FROM firstread.reports GROUP BY version ORDER BY version"
    )
    assert versions == [(1, STUDIES - 1), (2, 1)]
    assert not list((tmp_path / "data" / "work").rglob("*.dcm"))


def test_orthanc_by_c_move(films: list[Path], database_url: str, tmp_path: Path) -> None:
    move_port = free_port()
    with orthanc(tmp_path / "orthanc", move_port=move_port) as peer:
        store_over_rest(peer, *films)
        config = write_site(tmp_path, database_url, {"main": _dimse(peer.ae_title, peer.port, move_port)})
        assert sweep(config).reported == STUDIES
        assert sweep(config).unchanged == STUDIES
    assert len(rows(database_url, "SELECT FROM firstread.reports")) == STUDIES


def test_dcmqrscp_by_c_move(films: list[Path], database_url: str, tmp_path: Path) -> None:
    move_port = free_port()
    plain = [path for path in films if not pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed]
    with dcmqrscp(tmp_path / "dcmqrscp", move_port=move_port) as peer:
        store(peer, *plain)
        config = write_site(tmp_path, database_url, {"main": _dimse(peer.ae_title, peer.port, move_port)})
        assert sweep(config).reported == len(plain)
        assert sweep(config).unchanged == len(plain)


def _dimse(ae_title: str, port: int, move_port: int) -> dict[str, object]:
    return {"kind": "dimse", "host": "127.0.0.1", "port": port, "ae_title": ae_title, "move_port": move_port}


def _late_image(film: Path, out: Path) -> Path:
    """The same film again as another instance of its series, as a repeat exposure arrives."""
    dataset = pydicom.dcmread(film)
    dataset.SOPInstanceUID += ".9"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceNumber = 9
    dataset.save_as(out)
    return out
