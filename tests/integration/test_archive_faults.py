"""The DIMSE archive against a peer that refuses, stalls, caps, dies midway and lies about success."""

import socket
from datetime import date, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.dimse.command import Counts
from pipeline.archive.dimse.dimse_archive import DimseStudies
from pipeline.archive.dimse.pdu import Rejection
from pipeline.dicom_writer import (
    EXPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    uid_from,
)
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.setting_archives import DicomwebArchive, DimseArchive
from pipeline.study import StudyQuery
from tests.faulty_dimse import AE_TITLE, STUDY_DATE, Faults, FaultyDimse, faulty_dimse
from tests.servers import CALLING, LOOPBACK, dcmqrscp, free_port, orthanc, store_over_rest
from tests.synthetic import chest_pixels, radiograph_header, write_chest

STUDY = uid_from("tests", "dimse")
FIRST_DAY = datetime(2031, 3, 1, 7, 0, 0)  # noqa: DTZ001 - DICOM times are local
BOTH = pytest.mark.parametrize("retrieve", ["move", "get"])


def archive(server: FaultyDimse | int, retrieve: str = "move", **changes: object) -> DimseStudies:
    port, move_port = (server, free_port()) if isinstance(server, int) else (server.port, server.move_port)
    settings = {
        "kind": "dimse",
        "host": LOOPBACK,
        "port": port,
        "ae_title": AE_TITLE,
        "calling_ae_title": CALLING,
        "retrieve": retrieve,
        "move_port": move_port,
        "min_free_gib": 0.1,
        "stall_timeout": 5.0,
        **changes,
    }
    return DimseStudies("faulty", DimseArchive.model_validate(settings))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One study of four films in two series and four transfer syntaxes."""
    folder = tmp_path_factory.mktemp("films")
    syntaxes = (EXPLICIT_LITTLE, JPEG_2000_LOSSLESS, JPEG_LS_LOSSLESS, RLE_LOSSLESS)
    return [
        write_chest(
            folder / f"{n}.dcm",
            radiograph_header("dimse", instance=n, series=1 + n % 2),
            pixels=chest_pixels(60, 50, seed=n),
            transfer_syntax=syntax,
        )
        for n, syntax in enumerate(syntaxes, 1)
    ]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """23 studies of one film over five days, ten of them on one."""
    folder = tmp_path_factory.mktemp("month")
    return [
        write_chest(
            folder / f"{n}.dcm",
            radiograph_header(
                f"month-{n}", started=FIRST_DAY + timedelta(days=2 if n < 10 else n % 5, minutes=7 * (n // 2))
            ),
            pixels=chest_pixels(24, 20),
        )
        for n in range(23)
    ]


@BOTH
def test_a_sound_archive_is_fetched_as_stored(films: list[Path], tmp_path: Path, retrieve: str) -> None:
    with faulty_dimse(films, Faults(), free_port()) as server, archive(server, retrieve) as dimse:
        fetched = dimse.fetch(STUDY, tmp_path)
        assert server.store_statuses == [0] * 4
    assert fetched.complete
    assert sorted(held.sha256 for held in fetched.held) == sorted(map(content_digest, films))


@pytest.mark.parametrize("faults", [Faults(find_cap=5), Faults(find_cap=10), Faults(find_refuses_above=6)])
def test_every_study_is_found_once_although_lists_are_cut(month: list[Path], faults: Faults) -> None:
    with faulty_dimse(month, faults) as server, archive(server) as dimse:
        year = StudyQuery(date(2031, 1, 1), date(2031, 12, 31))
        found = sorted(study.study_instance_uid for study in dimse.find(year))
    assert found == sorted(uid_from("tests", f"month-{n}") for n in range(23))


def test_ranges_are_written_without_spaces(month: list[Path]) -> None:
    with faulty_dimse(month, Faults()) as server, archive(server) as dimse:
        list(dimse.find(StudyQuery(date(2031, 3, 1), date(2031, 3, 9))))
    assert server.identifiers[0][STUDY_DATE].strip() == b"20310301-20310309"


@pytest.mark.parametrize(
    "terms", [("GB18030", "gb18030"), ("ISO_IR 192", "utf-8"), ("\\ISO 2022 IR 58", "gb2312")]
)
def test_answers_in_other_character_sets_are_read(films: list[Path], terms: tuple[str, str]) -> None:
    with faulty_dimse(films, Faults(find_character_set=terms)) as server, archive(server) as dimse:
        (study,) = dimse.find(StudyQuery())
    assert study.study_instance_uid == STUDY


def test_pending_without_identifier_is_passed_over(films: list[Path]) -> None:
    with faulty_dimse(films, Faults(find_empty_rows=True)) as server, archive(server) as dimse:
        assert len(list(dimse.find(StudyQuery()))) == 1


@pytest.mark.parametrize(
    ("faults", "kind", "code"),
    [
        (Faults(find_status=0xC000), RetryLater, "archive-error"),
        (Faults(find_status=0x1234), RetryLater, "archive-error"),
        (Faults(find_status=None), RetryLater, "archive-error"),
        (Faults(find_status=0xFE00), StopRun, "archive-capped"),
        (Faults(find_status=0xA900), FailStudy, "archive-refused"),
        (Faults(find_status=0x0124), StopRun, "archive-refused-service"),
        (Faults(find_status=0x0122), StopRun, "archive-refused-service"),
        (Faults(find_stalls=True), RetryLater, "archive-stalled"),
        (Faults(find_aborts=True), RetryLater, "archive-aborted"),
        (Faults(rejection=Rejection(1, 1, 7)), StopRun, "wrong-called-ae"),
        (Faults(rejection=Rejection(1, 1, 3)), StopRun, "calling-ae-refused"),
        (Faults(rejection=Rejection(2, 3, 2)), RetryLater, "archive-busy"),
        (Faults(rejection=Rejection(1, 2, 2)), StopRun, "archive-rejected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_query_that_fails_says_what_to_do(
    month: list[Path], faults: Faults, kind: type[FirstreadError], code: str
) -> None:
    with (
        faulty_dimse(month, faults) as server,
        archive(server, stall_timeout=0.5) as dimse,
        pytest.raises(kind) as caught,
    ):
        list(dimse.find(StudyQuery()))
    assert caught.value.code == code


def test_a_row_that_cannot_be_read_is_counted_and_the_query_goes_on(month: list[Path]) -> None:
    with faulty_dimse(month, Faults(find_malformed=True)) as server, archive(server) as dimse:
        found = list(dimse.find(StudyQuery()))
        passed = dimse.passed_over.take()
    studies = {pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in month}
    assert found == []
    assert passed == {"row-unreadable": len(studies)}


def test_nobody_there() -> None:
    with archive(free_port()) as dimse, pytest.raises(RetryLater, match="refused"):
        dimse.echo()


@BOTH
@pytest.mark.parametrize(
    ("faults", "kind", "code"),
    [
        (Faults(sends=0, retrieve_counts=Counts(completed=0)), RetryLater, "nothing-came"),
        (
            Faults(sends=0, retrieve_status=0xB000, retrieve_counts=Counts(0, 0, 4, 0)),
            RetryLater,
            "archive-ended-early",
        ),
        (Faults(sends=0, retrieve_status=0xA702), RetryLater, "archive-ended-early"),
        (Faults(sends=0, retrieve_status=0xA701), RetryLater, "archive-busy"),
        (Faults(sends=0, retrieve_status=0xA801), StopRun, "move-destination-unknown"),
        (Faults(sends=0, retrieve_status=0xC000), RetryLater, "archive-error"),
        (Faults(sends=0, retrieve_status=0xA900), FailStudy, "archive-refused"),
        (Faults(sends=0, retrieve_status=0x7777), RetryLater, "archive-error"),
        (Faults(retrieve_stalls=True), RetryLater, "archive-stalled"),
        (Faults(dies_after=0), RetryLater, "archive-aborted"),
    ],
    ids=["success-0", "b000", "a702", "a701", "a801", "c000", "a900", "unknown", "stalls", "dies"],
)
def test_when_nothing_comes_the_caller_hears_why(
    films: list[Path], tmp_path: Path, retrieve: str, faults: Faults, kind: type[FirstreadError], code: str
) -> None:
    with (
        faulty_dimse(films, faults, free_port()) as server,
        archive(server, retrieve, stall_timeout=0.5) as dimse,
        pytest.raises(kind) as caught,
    ):
        dimse.fetch(STUDY, tmp_path)
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_an_archive_that_has_sent_to_us_knows_its_destination(films: list[Path], tmp_path: Path) -> None:
    """pynetdicom's application answers 0xA801 also where its association with us was not accepted this once."""
    with faulty_dimse(films, Faults(), free_port()) as server, archive(server) as dimse:
        assert dimse.fetch(STUDY, tmp_path / "first").complete
        server.faults.sends, server.faults.retrieve_status = 0, 0xA801
        with pytest.raises(RetryLater, match="though it did before") as caught:
            dimse.fetch(STUDY, tmp_path / "again")
        server.faults.sends, server.faults.retrieve_status = 10**6, 0
        assert dimse.fetch(STUDY, tmp_path / "again").complete
    assert caught.value.code == "archive-ended-early"


@BOTH
@pytest.mark.parametrize(
    "faults",
    [
        Faults(sends=2, retrieve_counts=Counts(0, 2, 2, 0), retrieve_status=0xB000),
        Faults(sends=2, retrieve_counts=Counts(0, 2, 2, 0), retrieve_status=0xA702),
        Faults(sends=2, retrieve_status=0xC123),
    ],
    ids=["says-some-failed", "says-it-cannot", "fails"],
)
def test_what_an_archive_ends_early_is_asked_for_again_at_once(
    films: list[Path], tmp_path: Path, retrieve: str, faults: Faults
) -> None:
    with faulty_dimse(films, faults, free_port()) as server, archive(server, retrieve) as dimse:
        assert dimse.fetch(STUDY, tmp_path).complete
        assert len(server.store_statuses) == 4


@pytest.mark.parametrize(
    ("faults", "retrieve"),
    [
        (Faults(sends=2, retrieve_counts=Counts(0, 4, 0, 0)), "move"),
        (Faults(dies_after=2), "move"),
        (Faults(dies_after=2), "get"),
        (Faults(stalls_after=2), "move"),
        (Faults(stalls_after=2), "get"),
    ],
    ids=["lies-move", "dies-move", "dies-get", "stalls-move", "stalls-get"],
)
def test_a_short_study_is_told_and_completed_by_the_next_fetch(
    films: list[Path], tmp_path: Path, retrieve: str, faults: Faults
) -> None:
    with (
        faulty_dimse(films, faults, free_port()) as server,
        archive(server, retrieve, stall_timeout=1.0) as dimse,
    ):
        short = dimse.fetch(STUDY, tmp_path)
        assert len(short.held) == len(short.missing) == 2
        server.faults = Faults()
        sent = len(server.store_statuses)
        whole = dimse.fetch(STUDY, tmp_path)
        assert len(server.store_statuses) == sent + 2
    assert whole.complete


def test_stores_after_success_are_waited_for(films: list[Path], tmp_path: Path) -> None:
    faults = Faults(sends_late=0.6, retrieve_counts=Counts(0, 4, 0, 0))
    with faulty_dimse(films, faults, free_port()) as server, archive(server) as dimse:
        assert dimse.fetch(STUDY, tmp_path).complete


@BOTH
def test_pending_responses_are_progress(films: list[Path], tmp_path: Path, retrieve: str) -> None:
    faults = Faults(pending_for=1.6)
    with (
        faulty_dimse(films, faults, free_port()) as server,
        archive(server, retrieve, stall_timeout=0.8) as dimse,
    ):
        assert dimse.fetch(STUDY, tmp_path).complete


@BOTH
def test_duplicates_are_one(films: list[Path], tmp_path: Path, retrieve: str) -> None:
    with (
        faulty_dimse(films, Faults(sends_twice=True), free_port()) as server,
        archive(server, retrieve) as dimse,
    ):
        fetched = dimse.fetch(STUDY, tmp_path)
        assert server.store_statuses == [0] * 8
    assert (len(fetched.held), fetched.damaged) == (4, ())


@BOTH
@pytest.mark.parametrize(
    ("faults", "codes"),
    [(Faults(truncates=True), {"truncated"})],
    ids=["truncated"],
)
def test_damage_is_reported_and_refused(
    films: list[Path], tmp_path: Path, retrieve: str, faults: Faults, codes: set[str]
) -> None:
    with faulty_dimse(films, faults, free_port()) as server, archive(server, retrieve) as dimse:
        fetched = dimse.fetch(STUDY, tmp_path)
        assert set(server.store_statuses) == {0xC000}
    assert not fetched.held
    assert len(fetched.missing) == 4
    assert {damage.code for damage in fetched.damaged} == codes


@BOTH
def test_a_request_that_names_another_instance_than_its_data_set_is_remarked(
    films: list[Path], tmp_path: Path, retrieve: str
) -> None:
    with (
        faulty_dimse(films, Faults(renames=True), free_port()) as server,
        archive(server, retrieve) as dimse,
    ):
        fetched = dimse.fetch(STUDY, tmp_path)
        assert set(server.store_statuses) == {0}
    assert fetched.complete
    assert {held.lenience for held in fetched.held} == {("meta-uid",)}


@BOTH
def test_an_instance_of_another_study_is_never_kept(
    films: list[Path], month: list[Path], tmp_path: Path, retrieve: str
) -> None:
    faults = Faults(sends_stranger=month[0])
    with faulty_dimse(films, faults, free_port()) as server, archive(server, retrieve) as dimse:
        fetched = dimse.fetch(STUDY, tmp_path)
        assert server.store_statuses[:4] == [0] * 4
        assert server.store_statuses[4] in (0xC000, 0x0124)
    assert fetched.complete
    assert len(fetched.held) == 4


def test_stores_that_nobody_waits_for_are_refused(films: list[Path], tmp_path: Path) -> None:
    lazy = Faults(sends=0, retrieve_counts=Counts(completed=0))
    with faulty_dimse(films, lazy, free_port()) as server, archive(server) as dimse:
        with pytest.raises(RetryLater, match="nothing-came"):
            dimse.fetch(STUDY, tmp_path)
        # its Storage SCP listens on; a move that another archive object asked for goes there by mistake
        with (
            faulty_dimse(films, Faults(), server.move_port) as stray,
            archive(stray, move_port=free_port()) as other,
            pytest.raises(RetryLater),
        ):
            other.fetch(STUDY, tmp_path / "other")
        assert set(stray.store_statuses) == {0x0124}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_taken_move_port_is_a_configuration_error(films: list[Path], tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = int(taken.getsockname()[1])
        with (
            faulty_dimse(films, Faults(), port) as server,
            archive(server) as dimse,
            pytest.raises(ConfigurationError, match="port-in-use"),
        ):
            dimse.fetch(STUDY, tmp_path)


def test_orthanc_that_answers_before_it_sends(films: list[Path], tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "peer", move_port=port, SynchronousCMove=False) as peer:
        store_over_rest(peer, *films)
        with archive(peer.port, ae_title=peer.ae_title, move_port=port) as dimse:
            assert dimse.fetch(STUDY, tmp_path / "study").complete


def test_peers_say_no_in_their_own_ways(films: list[Path], tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", move_port=port) as peer:
        store_over_rest(peer, *films)
        with archive(peer.port, ae_title="WRONG") as dimse, pytest.raises(StopRun, match="wrong-called-ae"):
            dimse.echo()
        stranger = archive(peer.port, ae_title=peer.ae_title, calling_ae_title="STRANGER")
        with stranger as dimse, pytest.raises((RetryLater, StopRun)):
            list(dimse.find(StudyQuery()))
        deaf = archive(peer.port, ae_title=peer.ae_title, move_port=free_port())
        with deaf as dimse, pytest.raises(RetryLater):
            dimse.fetch(STUDY, tmp_path / "study")
    with dcmqrscp(tmp_path / "dcmqrscp", move_port=port) as peer:
        with archive(peer.port, ae_title="WRONG") as dimse, pytest.raises(StopRun, match="wrong-called-ae"):
            dimse.echo()
        with archive(peer.port, ae_title=peer.ae_title) as dimse, pytest.raises(SkipStudy):
            dimse.fetch(STUDY, tmp_path / "study")


def test_orthanc_with_a_limit_of_five_results(month: list[Path], tmp_path: Path) -> None:
    everyone = sorted(uid_from("tests", f"month-{n}") for n in range(23))
    with orthanc(tmp_path / "peer", LimitFindResults=5) as peer:
        store_over_rest(peer, *month)
        web = DicomwebArchive(kind="dicomweb", url=peer.dicomweb, page_size=10)
        with (
            DicomwebStudies("web", web) as over_http,
            archive(peer.port, ae_title=peer.ae_title) as over_dimse,
        ):
            assert sorted(study.study_instance_uid for study in over_http.find(StudyQuery())) == everyone
            assert sorted(study.study_instance_uid for study in over_dimse.find(StudyQuery())) == everyone
