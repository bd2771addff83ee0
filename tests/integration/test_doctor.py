"""``firstread doctor`` against real peers with the faults that sites have: the sentence that repairs each."""

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from flows.commands import doctor
from flows.commands.simulate import simulate
from flows.environment.workplace import Workplace
from pipeline.errors import SkipStudy
from pipeline.settings import Settings
from pipeline.study import StudyQuery
from tests.engines import share_graphs
from tests.faulty_dicomweb import Faults, faulty_dicomweb
from tests.loopback import self_signed
from tests.servers import LOOPBACK, Peer, dcmqrscp, free_port, orthanc, store, store_over_rest
from tests.synthetic import write_chest

SECRET = "not%20shown"
DIMSE = {"kind": "dimse", "host": LOOPBACK, "min_free_gib": 0.1}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [path for study in simulate(2, folder, seed=3).studies for path in study.paths]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, films: list[Path]) -> Iterator[Peer]:
    """Orthanc that moves to FIRSTREAD at a port that nobody listens on, and lets nobody else query."""
    options = {"DicomAlwaysAllowFind": False, "DicomCheckModalityHost": False}
    with orthanc(tmp_path_factory.mktemp("doctor") / "orthanc", **options) as peer:
        store_over_rest(peer, *films)
        yield peer


def verdicts(folder: Path, **archive: Any) -> str:
    """All that is said of one archive."""
    settings = Settings(data_dir=folder, archives=cast(Any, {"main": archive}))
    with Workplace.without_store(settings) as place:
        return "\n".join(
            f"{one.part} {'well' if one.well else 'to mend'} {one.verdict}"
            for one in doctor._archive(place, "main")
        )


def test_a_kernel_that_does_not_shut_decoders_in_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Landlock" in doctor._decoders()
    monkeypatch.setattr(doctor, "landlock_version", lambda: -1)
    assert "this kernel has no Landlock" in doctor._decoders()


def test_dimse_faults_are_told_with_their_repair(pacs: Peer, tmp_path: Path) -> None:
    port = free_port()
    there = {**DIMSE, "port": pacs.port, "ae_title": "ORTHANC", "move_port": port}
    said = verdicts(tmp_path, **there, calling_ae_title="STRANGER")
    assert "find to mend" in said
    assert "may not know the calling AE title STRANGER, register it there" in said
    said = verdicts(tmp_path, **{**there, "ae_title": "WRONG"})
    assert "the archive does not know itself as WRONG: check ae_title" in said
    said = verdicts(tmp_path, **{**DIMSE, "port": free_port(), "ae_title": "ORTHANC"})
    assert "connection refused: check host and port" in said
    with socket.create_server((LOOPBACK, 0)) as taken:
        number = taken.getsockname()[1]
        said = verdicts(tmp_path, **{**there, "move_port": number})
    assert f"cannot listen on {LOOPBACK}:{number}" in said


def test_a_move_destination_that_orthanc_does_not_know(films: list[Path], tmp_path: Path) -> None:
    """Orthanc answers 0xC000."""
    modalities = {"other": {"AET": "OTHER", "Host": LOOPBACK, "Port": free_port()}}
    with orthanc(
        tmp_path / "orthanc", DicomModalities=modalities, DicomAlwaysAllowFind=True, DicomAlwaysAllowMove=True
    ) as peer:
        store_over_rest(peer, *films)
        port = free_port()
        said = verdicts(tmp_path, **DIMSE, port=peer.port, ae_title="ORTHANC", move_port=port)
    assert "0xC000" in said
    assert f"it must know FIRSTREAD at {LOOPBACK}, port {port}" in said


def test_a_move_destination_that_dcmtk_does_not_know(tmp_path: Path) -> None:
    """dcmqrscp answers 0xA801."""
    film = write_chest(tmp_path / "film.dcm")
    with dcmqrscp(tmp_path / "dcmqrscp", move_port=free_port()) as peer:
        store(peer, film)
        port = free_port()
        there = {**DIMSE, "port": peer.port, "ae_title": "DCMQRSCP", "move_port": port}
        said = verdicts(tmp_path, **there, calling_ae_title="NOBODY")
    assert f"does not know our move destination: it must know NOBODY at {LOOPBACK}, port {port}" in said


def test_urls_that_are_no_dicomweb_root(pacs: Peer, tmp_path: Path) -> None:
    for wrong in (pacs.rest, f"{pacs.rest}/dicomweb"):
        said = verdicts(tmp_path, kind="dicomweb", url=wrong)
        assert "echo to mend" in said
        assert "the path in url (for instance /dicom-web)" in said


def test_one_study_that_is_broken_does_not_speak_for_the_archive(pacs: Peer, tmp_path: Path) -> None:
    """The first study is listed and cannot be had (one UID under two patients in Orthanc); a second one can."""
    web = {"kind": "dicomweb", "url": pacs.dicomweb, "min_free_gib": 0.1}
    settings = Settings(data_dir=tmp_path, archives={"main": web})  # type: ignore[dict-item]
    with Workplace.without_store(settings) as place:
        sound = next(iter(place.archive("main").find(StudyQuery())))
        broken = replace(sound, study_instance_uid="2.25.404")
        said = doctor._retrieve(place, "main", [broken, sound])
        assert "announced instances of a study came; 1 other study could not be retrieved" in said
        with pytest.raises(SkipStudy, match="study-gone"):
            doctor._retrieve(place, "main", [broken, broken, sound])


def test_tls_faults_are_told_with_their_repair(films: list[Path], tmp_path: Path) -> None:
    public, key = self_signed(tmp_path, "DNS:pacs.example,IP:127.0.0.9")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    with faulty_dicomweb(films, Faults(), tls=context) as server, faulty_dicomweb(films, Faults()) as plain:
        web = {"kind": "dicomweb", "min_free_gib": 0.1}
        trusted = verdicts(tmp_path, **web, url=server.url, ca_file=str(public))
        assert "the certificate is for pacs.example, 127.0.0.9, not for 127.0.0.1" in trusted
        assert "self-signed" in verdicts(tmp_path, **web, url=server.url)
        mixed = verdicts(tmp_path, **web, url=server.url.replace("https", "http"))
        assert "url must begin with https://" in mixed
        mixed = verdicts(tmp_path, **web, url=plain.url.replace("http", "https"))
        assert "url should begin with http://" in mixed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_demanded_client_certificate_is_named(
    films: list[Path], tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 a client without one is thrown out only after the connection is open."""
    public, key = self_signed(tmp_path, "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(public, key)
    context.load_verify_locations(public)
    context.verify_mode = ssl.CERT_REQUIRED
    with faulty_dicomweb(films, Faults(), tls=context) as server:
        said = verdicts(tmp_path, kind="dicomweb", min_free_gib=0.1, url=server.url, ca_file=str(public))
    assert "client certificate" in said


def database_verdict(folder: Path, url: str) -> tuple[str, float]:
    """What is said of a database, and the seconds that it took."""
    settings = Settings(data_dir=folder, database={"url": url})  # type: ignore[arg-type]
    began = time.monotonic()
    one = doctor._try("database", lambda: doctor._database(settings))
    assert not one.well
    return one.verdict, time.monotonic() - began


def test_databases_that_cannot_be_used_are_told_at_once(own_database_url: str, tmp_path: Path) -> None:
    place = own_database_url.rpartition("@")[2].partition("/")[0]
    login = own_database_url.partition("://")[2].partition(":")[0]
    nobody = free_port()
    cases: Mapping[str, tuple[str, ...]] = {
        f"postgresql://u:{SECRET}@{LOOPBACK}:{nobody}/d": (f"{LOOPBACK}:{nobody}",),
        own_database_url.rpartition("/")[0] + "/absent": ("no such database",),
        f"postgresql://{login}:{SECRET}@{place}/absent": ("password",),
        f"postgresql://u:{SECRET}@no.such.host.invalid/d": ("does not resolve",),
    }
    for url, words in cases.items():
        said, seconds = database_verdict(tmp_path, url)
        assert all(word in said for word in words), said
        assert SECRET not in said
        assert "not shown" not in said
        assert seconds < 10, (said, seconds)


def test_it_goes_on_after_a_part_that_fails(
    films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Database away, tasks that the model cannot do: model and archive are tried all the same."""
    share_graphs(tmp_path)
    settings = Settings(
        data_dir=tmp_path,
        database={"url": f"postgresql://u:{SECRET}@{LOOPBACK}:{free_port()}/d"},  # type: ignore[arg-type]
        archives={"main": {"kind": "folder", "path": films[0].parent.parent}},  # type: ignore[dict-item]
        tasks=({"task": "vqa", "questions": ("Is there a tube?",)},),  # type: ignore[arg-type]
    )
    assert doctor.examine(settings, None, as_json=True) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["part"]: one["well"] for one in told["parts"]} == {
        "configuration": True,
        "decoders": True,
        "tasks": False,
        "database": False,
        "data_dir": True,
        "model": True,
        "main: echo": True,
        "main: find": True,
        "main: retrieve": True,
    }
    said = next(one["verdict"] for one in told["parts"] if one["part"] == "tasks")
    assert "firstread-mini cannot answer 'Is there a tube?'" in said
    assert "models show firstread-mini" in said
