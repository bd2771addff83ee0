"""The web server as a service: who is answered, what is audited, what is logged, and how it stops."""

import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pipeline.errors import ConfigurationError, FailStudy, RetryLater
from pipeline.lookup import ResourcePage, ResourceSearch
from pipeline.web import Access, create_app, serving
from tests.fhir_rest import checked, ids
from tests.invented_outcomes import invented_outcome
from tests.memory_reader import MemoryReader


def plain_site(stack: ExitStack, reader: MemoryReader, token: str = "", audit: Any = None) -> str:
    app = create_app(reader, token=token, audit=audit or (lambda _: None), clock=lambda: datetime.now(UTC))
    return stack.enter_context(serving(app)).rstrip("/")


@pytest.fixture
def filled() -> MemoryReader:
    reader = MemoryReader()
    reader.save_all([invented_outcome(0), invented_outcome(1)])
    return reader


def test_a_token_is_demanded_where_one_is_set(filled: MemoryReader) -> None:
    token = "a-token-of-this-site"
    with ExitStack() as stack:
        url = plain_site(stack, filled, token)
        client = stack.enter_context(httpx.Client(base_url=url))
        refused = client.get("/fhir/DiagnosticReport/report-0")
        assert checked(refused, 401)["issue"][0]["code"] == "login"
        assert refused.headers["www-authenticate"].startswith("Bearer")
        wrong = client.get("/fhir/DiagnosticReport/report-0", headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        right = {"authorization": f"Bearer {token}"}
        checked(client.get("/fhir/DiagnosticReport/report-0", headers=right))
        checked(client.get("/fhir/metadata"))
        checked(client.get("/fhir/StructureDefinition?url=urn:x"))
        assert client.get("/fhir/StructureDefinition/../DiagnosticReport").status_code == 401
        page = client.get("/reports/report-0")
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
        assert client.post("/sign-in", data={"token": "wrong"}).status_code == 403
        foreign = client.post("/sign-in", data={"token": token}, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        opened = client.post("/sign-in", data={"token": token}, headers={"origin": url})
        assert opened.status_code == 303
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert "SameSite=strict" in opened.headers["set-cookie"]
        assert "Invented Person" in client.get("/reports/report-0").text


def test_another_name_for_this_machine_is_not_answered(filled: MemoryReader) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=plain_site(stack, filled)))
        for path in ("/", "/fhir/DiagnosticReport", "/reports/report-0"):
            answer = client.get(path, headers={"host": "attacker.example"})
            assert answer.status_code == 403
            assert "Invented" not in answer.text


def test_what_cannot_be_audited_is_not_shown(filled: MemoryReader, caplog: pytest.LogCaptureFixture) -> None:
    def broken(accesses: Sequence[Access]) -> None:
        raise RetryLater("database-away", "the database is away")

    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=plain_site(stack, filled, audit=broken)))
        answer = client.get("/fhir/DiagnosticReport/report-0")
        assert checked(answer, 503)["issue"][0]["code"] == "transient"
        assert answer.headers["retry-after"] == "5"
        for path in ("/", "/reports/report-0"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "Invented" not in answer.text


def test_a_failure_shows_and_logs_no_patient_data(
    filled: MemoryReader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=plain_site(stack, filled)))
        client.get("/fhir/DiagnosticReport?identifier=ACC-0")
        filled.broken = KeyError("Invented Person 0 MRN-0")
        assert checked(client.get("/fhir/Patient/patient-0"), 500)["issue"][0]["code"] == "exception"
        page = client.get("/")
        assert page.status_code == 500
        assert "Invented" not in page.text
    assert "a request failed with KeyError" in caplog.text
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore", "asyncio"))]
    assert not any(word in line for line in ours for word in ("Invented", "MRN-0", "ACC-0", "patient-0"))


SERVER = """
from datetime import UTC, datetime
from pipeline.web import create_app, serve
from tests.invented_outcomes import START, invented_outcome
from tests.memory_reader import MemoryReader
reader = MemoryReader()
reader.save(invented_outcome(0), START)
app = create_app(reader, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC))
serve(app, "127.0.0.1", 0, ready=lambda url: print(url, flush=True))
print("closed", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_returns_when_told_to_stop_and_logs_no_request(number: signal.Signals) -> None:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        answer = httpx.get(f"{url}fhir/DiagnosticReport", params={"identifier": "ACC-0"})
        server.send_signal(number)
        out, err = server.communicate(timeout=30)
    assert ids(checked(answer)) == ["report-0"]
    assert (server.returncode, out, err) == (0, "closed\n", "")


def test_a_taken_port_is_a_configuration_error(filled: MemoryReader) -> None:
    with ExitStack() as stack:
        port = int(plain_site(stack, filled).rpartition(":")[2])
        app = create_app(filled, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC))
        with pytest.raises(ConfigurationError) as caught, serving(app, port=port):
            pass
        assert caught.value.code == "port-taken"


class SlowReader(MemoryReader):
    """A store whose database has ended a search that took too long."""

    def search(self, search: ResourceSearch) -> ResourcePage:
        raise FailStudy("database-slow", "the database did not answer in time")


def test_a_search_that_takes_too_long_is_an_answer() -> None:
    with ExitStack() as stack:
        answer = httpx.get(f"{plain_site(stack, SlowReader())}/fhir/Patient")
    assert answer.status_code == 503
    assert answer.json()["issue"][0]["code"] == "too-costly"


def test_headers_that_keep_pages_to_themselves(filled: MemoryReader) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=plain_site(stack, filled)))
        for path in ("/", "/reports/report-0", "/fhir/Patient/patient-0", "/fhir/absent", "/nowhere"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers
