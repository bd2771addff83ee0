"""The DICOMweb adapter retrieves from a server that misbehaves: what is cut, packed, sent elsewhere or left out."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.dicom_writer import uid_from
from pipeline.errors import FailStudy, RetryLater, SkipStudy
from tests.faulty_dicomweb import WEB_STUDY, Faults, faulty_archive, faulty_dicomweb, write_web_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_web_study(tmp_path_factory.mktemp("study"))


def test_a_redirect_is_followed_on_the_same_server(study: list[Path], tmp_path: Path) -> None:
    with (
        faulty_dicomweb(study, Faults(token="secret")) as server,
        faulty_archive(server, token="secret") as web,
    ):
        server.faults.redirects_to = server.url.removesuffix("/dicomweb")
        assert web.fetch(WEB_STUDY, tmp_path).complete


def test_a_redirect_elsewhere_fails_the_study_unless_allowed(study: list[Path], tmp_path: Path) -> None:
    with faulty_dicomweb(study, Faults()) as other, faulty_dicomweb(study, Faults(token="secret")) as server:
        elsewhere = other.url.removesuffix("/dicomweb")
        other.faults.redirects_to = elsewhere
        server.faults.redirects_to = elsewhere
        with (
            faulty_archive(server, token="secret") as web,
            pytest.raises(FailStudy, match="redirect_origins"),
        ):
            web.fetch(WEB_STUDY, tmp_path / "no")
        with faulty_archive(server, token="secret", redirect_origins=[elsewhere]) as web:
            assert web.fetch(WEB_STUDY, tmp_path / "yes").complete


def test_an_instance_may_come_as_one_part(study: list[Path], tmp_path: Path) -> None:
    """PS3.18 10.4.1: application/dicom is the default of an instance."""
    with faulty_dicomweb(study, Faults(single_part=True)) as server, faulty_archive(server) as web:
        fetched = web.fetch(WEB_STUDY, tmp_path)
        assert fetched.complete
        assert (
            sum("/series/" in request for request in server.requests) == 4 + 2
        )  # it learns which form is had


def comes_whole(web: DicomwebStudies, folder: Path) -> bool:
    try:
        return web.fetch(WEB_STUDY, folder).complete
    except RetryLater as error:
        return error.code != "archive-cut-short"


@pytest.mark.parametrize("single_part", [True, False])
def test_retrieved_bodies_may_come_packed(study: list[Path], tmp_path: Path, *, single_part: bool) -> None:
    """RFC 9110 8.4: a gzip that nobody asked for is taken apart, one that is cut or damaged is asked for again."""
    packings: list[tuple[Callable[[bytes], bytes], bool]] = [
        (gzip.compress, True),
        (lambda body: gzip.compress(body)[:-200], False),
        (lambda body: b"\x1f\x8b" + body, False),
    ]
    for number, (pack, whole) in enumerate(packings):
        faults = Faults(packs=pack, single_part=single_part)
        with faulty_dicomweb(study, faults) as server, faulty_archive(server) as web:
            assert comes_whole(web, tmp_path / str(number)) is whole


def test_no_content_is_nothing_of_the_study(study: list[Path], tmp_path: Path) -> None:
    with (
        faulty_dicomweb(study, Faults(wado_status=204)) as server,
        faulty_archive(server) as web,
        pytest.raises(RetryLater, match="nothing-came"),
    ):
        web.fetch(WEB_STUDY, tmp_path)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(cuts_study_after=90_000),
        Faults(cuts_study_after=10),
        Faults(cuts_study_after=90_000, resets=True),
        Faults(refuses_wildcard=True),
        Faults(ends_study_early=True),
        Faults(wrong_boundary=True),
        Faults(sends_part_of_study=2),
        Faults(lengths_lie=True),
        Faults(study_status=500),
        Faults(study_status=406),
    ],
    ids=[
        "cut",
        "cut-at-once",
        "reset",
        "no-wildcard",
        "no-closing",
        "wrong-boundary",
        "206",
        "lengths-lie",
        "500",
        "406",
    ],
)
def test_what_the_study_request_left_out_is_fetched_by_instance(
    study: list[Path], tmp_path: Path, faults: Faults
) -> None:
    with faulty_dicomweb(study, faults) as server, faulty_archive(server) as web:
        fetched = web.fetch(WEB_STUDY, tmp_path)
    assert fetched.complete
    assert not fetched.damaged
    assert sorted(held.sha256 for held in fetched.held) == sorted(map(content_digest, study))
    assert {path.suffix for path in tmp_path.iterdir()} == {".dcm"}


def test_after_a_cut_only_the_missing_instances_are_asked_for(study: list[Path], tmp_path: Path) -> None:
    size = study[0].stat().st_size
    with (
        faulty_dicomweb(study, Faults(cuts_study_after=size * 2 + size // 2)) as server,
        faulty_archive(server) as web,
    ):
        assert web.fetch(WEB_STUDY, tmp_path).complete
        assert sum("/series/" in request for request in server.requests) == 2


def test_an_announced_instance_that_is_gone_stays_missing(study: list[Path], tmp_path: Path) -> None:
    gone = uid_from("tests", "web", "1", "2")
    with (
        faulty_dicomweb(study, Faults(gone_instances={gone}, study_status=500)) as server,
        faulty_archive(server) as web,
    ):
        fetched = web.fetch(WEB_STUDY, tmp_path)
    assert fetched.missing == (gone,)
    assert len(fetched.held) == 3


def test_another_instance_than_asked_for_is_damage(study: list[Path], tmp_path: Path) -> None:
    with (
        faulty_dicomweb(study, Faults(swaps_instances=True, study_status=500)) as server,
        faulty_archive(server) as web,
    ):
        fetched = web.fetch(WEB_STUDY, tmp_path)
    assert not fetched.held
    assert {damage.code for damage in fetched.damaged} == {"wrong-instance"}


def test_nothing_at_all_is_retry_later(study: list[Path], tmp_path: Path) -> None:
    with faulty_dicomweb(study, Faults()) as server, faulty_archive(server) as web:
        server.faults.study_status = 503
        with pytest.raises(RetryLater, match="archive-busy"):
            web.fetch(WEB_STUDY, tmp_path)


def test_a_study_that_vanishes_is_skipped(study: list[Path], tmp_path: Path) -> None:
    with (
        faulty_dicomweb(study, Faults(study_status=404)) as server,
        faulty_archive(server) as web,
        pytest.raises(SkipStudy, match="study-gone"),
    ):
        web.fetch(WEB_STUDY, tmp_path)
