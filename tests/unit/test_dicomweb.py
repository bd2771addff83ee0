"""The DICOMweb adapter asks a server that misbehaves: lists, statuses, connections."""

import gzip
import json
import re
import ssl
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.dicom_writer import uid_from
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, StopRun
from pipeline.study import StudyQuery
from tests.faulty_dicomweb import WEB_STUDY, Faults, faulty_archive, faulty_dicomweb, write_web_study
from tests.loopback import self_signed
from tests.servers import LOOPBACK, free_port
from tests.synthetic import chest_pixels, radiograph_header, write_chest

FIRST_DAY = datetime(2031, 3, 1, 7, 0, 0)  # noqa: DTZ001 - DICOM times are local
MONTH = {uid_from("tests", f"month-{number}") for number in range(23)}


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """23 studies of one film over five days; ten of them on one day, two of these in the same minute."""
    folder = tmp_path_factory.mktemp("month")
    files = []
    for number in range(23):
        day = 2 if number < 10 else number % 5
        moment = FIRST_DAY + timedelta(days=day, minutes=7 * (number // 2))
        header = radiograph_header(f"month-{number}", started=moment)
        files.append(write_chest(folder / f"{number}.dcm", header, pixels=chest_pixels(24, 20)))
    return files


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_web_study(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(ignores_offset=True),
        Faults(repeats_last_page=True),
        Faults(cap=5),
        Faults(cap=5, ignores_offset=True),
        Faults(total_cap=10),
        Faults(total_cap=7, warns=True),
    ],
    ids=["none", "ignores-offset", "repeats-page", "caps-pages", "caps-at-5", "caps-total", "caps-and-warns"],
)
def test_every_study_is_found_once_whatever_the_pages(month: list[Path], faults: Faults) -> None:
    with faulty_dicomweb(month, faults) as server, faulty_archive(server, page_size=10) as web:
        found = [study.study_instance_uid for study in web.find(StudyQuery())]
        assert sorted(found) == sorted(MONTH)
        within = StudyQuery(date(2031, 3, 2), date(2031, 3, 4))
        some = [found.study_date for found in web.find(within)]
    assert len(some) == 18
    assert {day for day in some if day} == {date(2031, 3, 2), date(2031, 3, 3), date(2031, 3, 4)}


def test_checking_a_whole_list_costs_its_two_halves(month: list[Path]) -> None:
    with faulty_dicomweb(month, Faults()) as server, faulty_archive(server, page_size=200) as web:
        assert len(list(web.find(StudyQuery()))) == 23
        assert len(server.requests) == 2 + 2 * 2
        server.requests.clear()
        assert len(list(web.find(StudyQuery(date(2031, 3, 5), date(2031, 3, 5))))) == 2
        assert len(server.requests) == 2


def test_a_cap_that_cannot_be_got_round_stops_the_run(tmp_path: Path) -> None:
    files = [
        write_chest(tmp_path / f"{n}.dcm", radiograph_header(f"same-{n}"), pixels=chest_pixels(24, 20))
        for n in range(7)
    ]
    elsewhere = radiograph_header("other-day", started=FIRST_DAY)
    files.append(write_chest(tmp_path / "other.dcm", elsewhere, pixels=chest_pixels(24, 20)))
    with (
        faulty_dicomweb(files, Faults(cap=5, ignores_offset=True)) as server,
        faulty_archive(server) as web,
        pytest.raises(StopRun, match="archive-capped"),
    ):
        list(web.find(StudyQuery()))


def test_ranges_are_written_without_spaces(month: list[Path]) -> None:
    with faulty_dicomweb(month, Faults()) as server, faulty_archive(server) as web:
        list(web.find(StudyQuery(date(2031, 3, 1), date(2031, 3, 9))))
        list(web.find(StudyQuery(since=date(2031, 3, 1))))
        list(web.find(StudyQuery(until=date(2031, 3, 1))))
    assert any("StudyDate=20310301-20310309&" in request for request in server.requests)
    assert any("StudyDate=20310301-&" in request for request in server.requests)
    assert any("StudyDate=-20310301&" in request for request in server.requests)


def test_instances_are_paged(study: list[Path]) -> None:
    with faulty_dicomweb(study, Faults(cap=1)) as server, faulty_archive(server) as web:
        assert len(web.instances(WEB_STUDY)) == 4


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry-After": "17"}, 17.0), ({}, None), ({"Retry-After": "soon"}, None)]
)
def test_a_busy_archive_says_when_to_come_back(
    study: list[Path], tmp_path: Path, status: int, header: dict[str, str], seconds: float | None
) -> None:
    faults = Faults(first_answers=[(status, header)])
    with faulty_dicomweb(study, faults) as server, faulty_archive(server) as web:
        with pytest.raises(RetryLater, match="archive-busy") as caught:
            list(web.find(StudyQuery()))
        assert caught.value.after_seconds == seconds
        assert len(list(web.find(StudyQuery()))) == 1
        server.faults.first_answers = [(status, header)] * 2
        with pytest.raises(RetryLater, match="archive-busy"):
            web.fetch(WEB_STUDY, tmp_path)
        assert web.fetch(WEB_STUDY, tmp_path).complete


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, StopRun, "archive-auth"),
        (403, StopRun, "archive-auth"),
        (404, StopRun, "archive-url"),
        (302, StopRun, "archive-url"),
        (500, RetryLater, "archive-error"),
        (408, RetryLater, "archive-error"),
        (425, RetryLater, "archive-error"),
        (400, FailStudy, "archive-refused"),
    ],
)
def test_statuses_become_advice(
    study: list[Path], status: int, kind: type[FirstreadError], code: str
) -> None:
    with (
        faulty_dicomweb(study, Faults(first_answers=[(status, {})])) as server,
        faulty_archive(server) as web,
        pytest.raises(kind) as caught,
    ):
        web.echo()
    assert caught.value.code == code


def test_a_page_that_is_not_dicomweb_is_told(study: list[Path]) -> None:
    with (
        faulty_dicomweb(study, Faults(html=True)) as server,
        faulty_archive(server) as web,
        pytest.raises(StopRun, match="not DICOM JSON"),
    ):
        web.echo()


def lower_case_tags(page: bytes) -> bytes:
    return json.dumps(
        [{tag.lower(): value for tag, value in row.items()} for row in json.loads(page)]
    ).encode()


ODD_PAGES: dict[str, Callable[[bytes], bytes]] = {
    "latin-1": lambda page: page.replace(b"Fictitious", b"Fict\xf6tious"),
    "escape-sequences": lambda page: page.replace(b"Fictitious", b"\x1b(BFictitious"),
    "byte-order-mark": lambda page: b"\xef\xbb\xbf" + page,
    "gzip-unasked": gzip.compress,
    "padded-uids": lambda page: re.sub(rb"\"(2\.25\.\d+)\"", rb'"\1\\u0000"', page),
    "lower-case-tags": lower_case_tags,
    "lone-surrogate": lambda page: page.replace(b"Fictitious", b"Fict\\ud800tious"),
    "values-without-an-array": lambda page: re.sub(rb'"Value": ?\[("[^"{}]*")\]', rb'"Value":\1', page),
    "modalities-in-one-value": lambda page: page.replace(b'["DX"]', b'["SR\\\\DX"]'),
    "modalities-with-commas": lambda page: page.replace(b'["DX"]', b'["SR, DX"]'),
    "a-number-without-end": lambda page: page.replace(
        b"[{", b'[{"00201206": {"vr": "IS", "Value": [' + b"9" * 5000 + b"]}, ", 1
    ),
}


@pytest.mark.parametrize("odd", ODD_PAGES)
def test_a_page_that_is_written_oddly_is_read(study: list[Path], odd: str, tmp_path: Path) -> None:
    with faulty_dicomweb(study, Faults(rewrites=ODD_PAGES[odd])) as server, faulty_archive(server) as web:
        assert [one.study_instance_uid for one in web.find(StudyQuery(modalities=("DX",)))] == [WEB_STUDY]
        assert web.fetch(WEB_STUDY, tmp_path).complete
        assert web.passed_over.take() == {}


@pytest.mark.parametrize("nothing", [b"", b"\r\n", b"[]", b"null"])
def test_an_empty_answer_is_no_match(study: list[Path], nothing: bytes, tmp_path: Path) -> None:
    """PS3.18 8.3.4: 200 with an empty body, since CP-2473."""
    with faulty_dicomweb(study, Faults(nothing=nothing)) as server, faulty_archive(server) as web:
        assert len(list(web.find(StudyQuery()))) == 1
        assert not list(web.find(StudyQuery(date(2025, 1, 1), date(2025, 1, 2))))
        assert len(web.instances(WEB_STUDY)) == 4


def test_one_row_without_its_array_is_a_row(study: list[Path]) -> None:
    def bare(page: bytes) -> bytes:
        rows = json.loads(page)
        return json.dumps(rows[0] if len(rows) == 1 else rows).encode()

    with faulty_dicomweb(study, Faults(rewrites=bare)) as server, faulty_archive(server) as web:
        assert [found.study_instance_uid for found in web.find(StudyQuery())] == [WEB_STUDY]


def test_rows_that_cannot_be_used_are_counted(study: list[Path]) -> None:
    def spoil(page: bytes) -> bytes:
        return json.dumps([*json.loads(page), {"0020000D": {"vr": "UI", "Value": ["x"]}}, 7, {}]).encode()

    with (
        faulty_dicomweb(study, Faults(rewrites=spoil, ignores_offset=True)) as server,
        faulty_archive(server) as web,
    ):
        assert len(list(web.find(StudyQuery(study_instance_uids=(WEB_STUDY,))))) == 1
        counted = web.passed_over.take()
    assert counted.keys() == {"row-unreadable", "row-without-uid"}


def test_instances_without_their_series_are_listed_by_series(study: list[Path], tmp_path: Path) -> None:
    def without(page: bytes) -> bytes:
        rows = json.loads(page)
        whole_study = len(rows) == 4
        return json.dumps(
            [{tag: v for tag, v in row.items() if tag != "0020000E" or not whole_study} for row in rows]
        ).encode()

    faults = Faults(rewrites=without, sends_part_of_study=1)
    with faulty_dicomweb(study, faults) as server, faulty_archive(server) as web:
        listed = web.instances(WEB_STUDY)
        assert len({one.ref.series_instance_uid for one in listed} - {""}) == 2
        assert web.fetch(WEB_STUDY, tmp_path).complete


REFUSALS: dict[str, Callable[[dict[str, str]], bool]] = {
    "study-time": lambda keys: "StudyTime" in keys,
    "open-ranges": lambda keys: "-" in (keys.get("StudyDate", "x")[0], keys.get("StudyDate", "x")[-1]),
    "includefield": lambda keys: "includefield" in keys,
    "all-three": lambda keys: any(refuses(keys) for name, refuses in REFUSALS.items() if name != "all-three"),
}


@pytest.mark.parametrize("refused", REFUSALS)
@pytest.mark.parametrize("since", [None, date(2031, 3, 3)])
def test_what_an_archive_cannot_be_asked_is_asked_otherwise(
    month: list[Path], refused: str, since: date | None
) -> None:
    """Ten of the studies are of one day, so that the list is checked by times."""
    with faulty_dicomweb(month, Faults(refuses=REFUSALS[refused])) as server, faulty_archive(server) as web:
        found = [study.study_instance_uid for study in web.find(StudyQuery(since=since))]
    assert len(found) == (23 if since is None else 17)


def test_a_date_may_say_when_to_come_back(study: list[Path]) -> None:
    """RFC 9110 10.2.3; one that has passed is now."""
    busy = [(429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"})]
    with faulty_dicomweb(study, Faults(first_answers=busy)) as server, faulty_archive(server) as web:
        with pytest.raises(RetryLater) as caught:
            list(web.find(StudyQuery()))
        assert caught.value.after_seconds == 0
        assert len(list(web.find(StudyQuery()))) == 1


def test_token_and_refused_connection(study: list[Path]) -> None:
    with faulty_dicomweb(study, Faults(token="right")) as server:
        with faulty_archive(server, token="right") as web:
            assert web.echo()
        with faulty_archive(server, token="wrong") as web, pytest.raises(StopRun, match="archive-auth"):
            web.echo()
    with (
        faulty_archive(f"http://{LOOPBACK}:{free_port()}/x") as web,
        pytest.raises(RetryLater, match="refused"),
    ):
        web.echo()


def test_a_stall_ends(study: list[Path]) -> None:
    with (
        faulty_dicomweb(study, Faults(stalls=True)) as server,
        faulty_archive(server, stall_timeout=0.3) as web,
        pytest.raises(RetryLater, match="archive-stalled"),
    ):
        web.echo()


def test_connections_are_kept(study: list[Path]) -> None:
    with faulty_dicomweb(study, Faults()) as server, faulty_archive(server) as web:
        for _ in range(5):
            web.echo()
        assert len(web._http._idle) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8042/dicom-web", "ftp://host/x", "http://"])
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="archive-url"):
        faulty_archive(url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_tls_is_verified_against_ca_file(
    study: list[Path], tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with faulty_dicomweb(study, Faults(), tls=context) as server:
        with faulty_archive(server, ca_file=certificate[0]) as web:
            assert web.fetch(WEB_STUDY, tmp_path).complete
        with faulty_archive(server) as web, pytest.raises(StopRun, match="archive-tls"):
            web.echo()
        plain = server.url.replace("https", "http")
        with faulty_archive(plain) as web, pytest.raises((RetryLater, StopRun)):
            web.echo()
    with pytest.raises(ConfigurationError, match="archive-tls"):
        faulty_archive("https://localhost/x", ca_file=tmp_path / "none.pem")
