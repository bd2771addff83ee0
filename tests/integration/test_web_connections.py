"""Peers that are silent, slow or many, and addresses that clients say they called: a real server, raw sockets."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pipeline.errors import ConfigurationError
from pipeline.fhir.audit_events import rest_access
from pipeline.lookup import ResourcePage, ResourceSearch
from pipeline.web import Access, Addresses, connections, create_app, serve, serving
from tests.fhir_rest import checked
from tests.invented_outcomes import invented_outcome
from tests.memory_reader import MemoryReader

TOKEN = "a-token-of-24-characters"
SIGNED = {"authorization": f"Bearer {TOKEN}"}


class HeldReader(MemoryReader):
    """Searches wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def search(self, search: ResourceSearch) -> ResourcePage:
        self.held.set()
        assert self.go.wait(30)
        return super().search(search)


@pytest.fixture
def reader() -> HeldReader:
    filled = HeldReader()
    filled.save_all([invented_outcome(0), invented_outcome(1)])
    return filled


@pytest.fixture
def url(reader: HeldReader) -> Iterator[str]:
    app = create_app(reader, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC))
    with serving(app) as address:
        yield address.rstrip("/")


def connect(url: str, source: str = "127.0.0.1") -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=20, source_address=(source, 0))


def raw(url: str, text: bytes) -> bytes:
    """All that comes back for ``text`` until the server closes."""
    with connect(url) as opened:
        opened.sendall(text)
        said = b""
        while got := opened.recv(65536):
            said += got
    return said


def is_closed(opened: socket.socket, seconds: float) -> bool:
    """Whether the server ends the connection in time."""
    opened.settimeout(seconds)
    try:
        while opened.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_silent_connections_keep_nobody_out(url: str) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=url))
        for _ in range(400):
            stack.enter_context(connect(url))
        time.sleep(1.0)
        for path, status in (("/health", 204), ("/fhir/DiagnosticReport?_count=1", 200)):
            begun = time.monotonic()
            assert client.get(path).status_code == status
            seconds = time.monotonic() - begun
            print(f"{path}: {seconds:.3f} s beside 400 silent connections")
            assert seconds < connections.HEAD_SECONDS / 2, path


def test_the_places_of_one_address_are_not_those_of_another(
    url: str, reader: HeldReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections.Connection, "most_of_address", 3)
    reader.go.clear()
    ask = b"GET /fhir/Patient HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        stack.callback(reader.go.set)
        for _ in range(3):
            stack.enter_context(connect(url)).sendall(ask)
        assert reader.held.wait(10)
        time.sleep(0.3)
        refused = httpx.get(f"{url}/fhir/Patient/patient-0")
        assert checked(refused, 503)["issue"][0]["code"] == "transient"
        assert refused.headers["retry-after"]
        assert refused.headers["cache-control"] == "no-store"
        assert httpx.get(f"{url}/health").status_code == 204
        other = stack.enter_context(connect(url, "127.0.0.2"))
        other.sendall(b"GET /fhir/Patient/patient-0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert other.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_request_without_an_end_is_ended(url: str, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with connect(url) as opened:
        opened.sendall(said)
        ended = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while said and not ended.wait(0.2):
                    opened.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        assert is_closed(opened, 5.0)
        ended.set()
        thread.join()


def test_a_body_and_an_answer_have_their_time_too(
    url: str, reader: HeldReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(connections, "STALLED_SECONDS", 1.0)
    with connect(url) as opened:
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 900\r\n\r\nstatus="
        opened.sendall(b"POST /fhir/Patient/_search HTTP/1.1\r\nHost: localhost\r\n" + form)
        assert is_closed(opened, 5.0)
    reader.save_all([invented_outcome(0, impression="x" * 20_000_000)])
    with connect(url) as opened:
        opened.sendall(b"GET /fhir/DiagnosticReport/report-0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(4.0)  # and take nothing of it
        got = 0
        with contextlib.suppress(OSError):
            while part := opened.recv(1 << 20):
                got += len(part)
        assert got < 20_000_000, "the rest was given up"


def test_a_busy_request_is_not_ended(url: str, reader: HeldReader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)
    reader.go.clear()
    threading.Timer(3.0, reader.go.set).start()
    assert httpx.get(f"{url}/fhir/Patient", timeout=20).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"[",
            b"[::1",
            b"a b",
            b"a/b",
            b"a@b",
            b"\xff\xfe",
            b"localhost:99999999",
            b"localhost:x",
            b"::::",
            b"a?b",
        ),
        *(b"a\\b", b"<script>", b"x" * 300, b"localhost#", b"localhost\xc2\xa0", b"127.0.0.1:80:80", b"%00"),
    ],
)
@pytest.mark.parametrize("path", [b"/", b"/fhir/Patient/patient-0", b"/fhir/metadata"])
def test_an_odd_host_is_answered(
    url: str, host: bytes, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    said = raw(url, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403")), said[:200]
    assert b"Invented" not in said
    assert host not in said or len(host) < 3
    assert caplog.records == []


def test_a_probe_without_a_host_finds_us_well(url: str) -> None:
    assert raw(url, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 204")
    assert raw(url, b"GET /fhir/Patient HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400")


@contextlib.contextmanager
def proxied(accesses: list[Any], **settings: Any) -> Iterator[str]:
    reader = MemoryReader()
    reader.save_all([invented_outcome(number) for number in range(3)])
    addresses = Addresses.of(**settings)
    app = create_app(
        reader, token=TOKEN, audit=accesses.extend, clock=lambda: datetime.now(UTC), addresses=addresses
    )
    with serving(app) as address:
        yield address.rstrip("/")


def links(answer: httpx.Response) -> list[str]:
    bundle = checked(answer)
    return [one["url"] for one in bundle["link"]] + [one["fullUrl"] for one in bundle["entry"]]


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "fhir.example.org",
    "X-Forwarded-For": "10.1.2.3, 127.0.0.1",
}


@pytest.mark.parametrize(
    ("settings", "headers", "base", "agent"),
    [
        ({"public_url": "https://fhir.example.org/"}, {}, "https://fhir.example.org/fhir/", "127.0.0.1"),
        ({"public_url": "https://a.example/r4"}, FORWARDED, "https://a.example/r4/fhir/", "127.0.0.1"),
        ({"trusted_proxies": ["127.0.0.0/8"]}, FORWARDED, "https://fhir.example.org/fhir/", "10.1.2.3"),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            FORWARDED | {"X-Forwarded-Prefix": "/drafts"},
            "https://fhir.example.org/drafts/fhir/",
            "10.1.2.3",
        ),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            {"Forwarded": 'for="[2001:db8::7]:99";proto=https;host=fhir.example.org'},
            "https://fhir.example.org/fhir/",
            "2001:db8::7",
        ),
        ({"trusted_proxies": ["10.9.9.9"]}, FORWARDED, "http://front.example/fhir/", "127.0.0.1"),
        ({}, FORWARDED, "http://front.example/fhir/", "127.0.0.1"),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a/b", "X-Forwarded-For": "x"},
            "http://front.example/fhir/",
            "127.0.0.1",
        ),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            {"X-Forwarded-For": "6.6.6.6, 10.1.2.3", "Forwarded": "host=evil.example;proto=https"},
            "http://front.example/fhir/",
            "10.1.2.3",
        ),
    ],
)  # fmt: skip
def test_links_lead_back_to_where_the_client_called(
    settings: dict[str, Any], headers: dict[str, str], base: str, agent: str
) -> None:
    accesses: list[Access] = []
    with proxied(accesses, **settings) as url:
        sent = {"host": "front.example", **headers, **SIGNED}
        found = links(httpx.get(f"{url}/fhir/DiagnosticReport?_count=2&_total=none", headers=sent))
        assert len(found) == 6, "self, first, next and last, and two resources"
        assert all(one.startswith(f"{base}DiagnosticReport") for one in found), found
        told = httpx.get(f"{url}/fhir/metadata", headers=sent).text
        assert json.loads(told)["implementation"]["url"] == base.rstrip("/")
        patient = f"{base}Patient/patient-0"
        by_patient = httpx.get(f"{url}/fhir/DiagnosticReport", params={"patient": patient}, headers=sent)
        assert len(checked(by_patient)["entry"]) == 1, "a reference that we gave finds its own"
    assert {one.agent for one in accesses} == {agent}


def test_a_session_behind_a_tls_proxy_is_for_tls_alone() -> None:
    with proxied([], public_url="https://fhir.example.org") as url:
        sent = {"origin": "https://fhir.example.org"}
        opened = httpx.post(f"{url}/sign-in", data={"token": TOKEN}, headers=sent)
        assert opened.status_code == 303
        cookie = opened.headers["set-cookie"]
        name, _, attributes = cookie.partition("=")
        assert name.startswith("__Host-")
        parts = {one.strip() for one in attributes.split(";")}
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= parts
        assert not any(one.startswith("Domain") for one in parts), (
            "RFC 6265bis 4.1.3.2: a browser drops it then"
        )
        sent["cookie"] = cookie.partition(";")[0]
        assert httpx.get(f"{url}/", headers=sent).status_code == 200
        plain = {"cookie": sent["cookie"].removeprefix("__Host-")}
        assert httpx.get(f"{url}/", headers=plain).status_code == 303, "the name of plain http is not taken"
        out = httpx.post(f"{url}/sign-out", headers=sent)
        assert out.headers["set-cookie"].startswith(name)
        assert "Secure" in out.headers["set-cookie"]
        assert httpx.get(f"{url}/", headers=sent).status_code == 303
        foreign = {"origin": "https://evil.example"}
        assert httpx.post(f"{url}/sign-in", data={"token": TOKEN}, headers=foreign).status_code == 403


@pytest.mark.parametrize(
    ("settings", "headers", "person"),
    [
        ({"trusted_proxies": ["127.0.0.1"]}, [("X-Person", "jdoe")], "jdoe"),
        ({"trusted_proxies": ["127.0.0.1"]}, [("X-Person", "forged"), ("X-Person", "jdoe")], "jdoe"),
        ({"trusted_proxies": ["127.0.0.1"]}, [("X-Other", "jdoe")], ""),
        ({"trusted_proxies": ["10.9.9.9"]}, [("X-Person", "forged")], ""),
    ],
)
def test_who_read_what_is_told_by_the_name_that_a_trusted_proxy_gives(
    settings: dict[str, Any], headers: list[tuple[str, str]], person: str
) -> None:
    accesses: list[Any] = []
    with proxied(accesses, person_header="X-Person", **settings) as url:
        sent = [*SIGNED.items(), *headers]
        for path in ("/fhir/DiagnosticReport/report-0", "/reports/report-0", "/"):
            assert httpx.get(f"{url}{path}", headers=sent).status_code == 200
    assert [one.person for one in accesses] == [person] * 3
    (event,) = rest_access(accesses[0])
    who = event["agent"][0]
    assert who["network"]["address"] == accesses[0].agent
    assert who.get("name", "") == person
    assert who["who"]["identifier"]["value"] == (person or accesses[0].agent)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"person_header": "X-Person"}, "person-header"),
        ({"person_header": "X Person:", "trusted_proxies": ["127.0.0.1"]}, "person-header"),
        ({"public_url": "fhir.example.org"}, "public-url"),
        ({"public_url": "ftp://fhir.example.org"}, "public-url"),
        ({"public_url": "https://[::1"}, "public-url"),
        ({"public_url": "https://a.example/?x=1"}, "public-url"),
        ({"trusted_proxies": ["proxy.example"]}, "trusted-proxies"),
    ],
)
def test_a_setting_that_is_no_address_is_told(settings: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Addresses.of(**settings)
    assert refused.value.code == code


def test_behind_a_proxy_a_token_is_demanded() -> None:
    """Every peer looks local there."""
    addresses = Addresses.of("https://fhir.example.org")
    app = create_app(
        MemoryReader(), token="", audit=lambda _: None, clock=lambda: datetime.now(UTC), addresses=addresses
    )
    with pytest.raises(ConfigurationError) as refused:
        serve(app, "127.0.0.1", 0)
    assert refused.value.code == "token-missing"
