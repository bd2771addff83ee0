"""The endpoint client on the wire: what is sent, what is asked again, and a server that misbehaves."""

import gzip
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.environment.site_models import model_choice
from models.families.endpoint.client import ChatMessage, EndpointClient, read_reply
from models.families.endpoint.refusals import retry_after
from models.family import Request
from models.model_choice import EndpointOptions
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, StopRun
from pipeline.settings import load
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.loopback import self_signed
from tests.served import open_served, quick_options
from tests.tiny_model import film_study

CHAT = (ChatMessage("user", ("hello",)),)


def ask(server: FaultyEndpoint, **changes: Any) -> Any:
    client = EndpointClient(quick_options(server.url, **changes))
    try:
        return client.complete([CHAT])[0]
    finally:
        client.close()


@pytest.fixture
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.families.endpoint.client.FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_a_request_is_greedy_and_seeded(server: FaultyEndpoint) -> None:
    reply = ask(server, seed=3, max_tokens=17)
    assert reply.text.startswith("Findings")
    body = server.bodies[0]
    assert (body["temperature"], body["seed"], body["max_tokens"], body["stream"]) == (0.0, 3, 17, False)
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert "user" not in body
    assert "metadata" not in body


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_can_get_better_is_asked_again(server: FaultyEndpoint, status: int) -> None:
    server.faults.first_answers = [(status, {}, b"x")] * 2
    assert ask(server).text.startswith("Findings")
    assert len(server.bodies) == 3


def test_it_comes_back_when_the_server_said(server: FaultyEndpoint) -> None:
    server.faults.first_answers = [(429, {"Retry-After": "1"}, b"")]
    begun = time.monotonic()
    ask(server)
    assert time.monotonic() - begun >= 1.0


def test_a_long_wait_is_left_to_the_ledger(server: FaultyEndpoint) -> None:
    server.faults.first_answers = [(503, {"Retry-After": "3600"}, b"")]
    begun = time.monotonic()
    error = ask(server)
    assert isinstance(error, RetryLater)
    assert error.after_seconds == 3600
    assert time.monotonic() - begun < 60
    assert len(server.bodies) == 1


def test_it_stops_asking(server: FaultyEndpoint) -> None:
    server.faults.always = (500, {}, b"oops")
    error = ask(server, attempts=3)
    assert isinstance(error, RetryLater)
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("status", "body", "kind", "advice"),
    [
        (401, b"", ConfigurationError, "endpoint.api_key"),
        (403, b"", ConfigurationError, "endpoint.api_key"),
        (404, b"", ConfigurationError, "endpoint.model"),
        (301, b"", ConfigurationError, "final address"),
        (307, b"", ConfigurationError, "redirects"),
        (
            400,
            b'{"message": "This model\'s maximum context length is 4096 tokens"}',
            FailStudy,
            "longer context",
        ),
        (413, b"", FailStudy, "endpoint.max_side"),
        (400, b'{"message": "bad"}', FailStudy, "its log"),
        (418, b"", FailStudy, "its log"),
        (204, b"", FailStudy, "its log"),
    ],
)
def test_what_cannot_get_better_is_asked_once(
    server: FaultyEndpoint, status: int, body: bytes, kind: type[FirstreadError], advice: str
) -> None:
    server.faults.always = (status, {"Location": server.url + "/v1/elsewhere"}, body)
    error = ask(server)
    assert type(error) is kind
    assert advice in error.message
    assert len(server.bodies) == 1


def test_a_key_is_sent_and_never_shown(server: FaultyEndpoint) -> None:
    server.faults.key = "sk-secret"
    assert ask(server, api_key="sk-secret").text
    assert "sk-secret" not in repr(quick_options(server.url, api_key="sk-secret"))
    assert isinstance(ask(server, api_key="other"), ConfigurationError)


def test_a_silent_server_is_given_up(server: FaultyEndpoint) -> None:
    server.faults.stalls = True
    error = ask(server, read_timeout=0.2, attempts=2)
    assert isinstance(error, RetryLater)
    assert error.code == "endpoint-slow"


def test_an_answer_that_drips_for_ever_ends_with_the_deadline(server: FaultyEndpoint) -> None:
    server.faults.drips = True
    begun = time.monotonic()
    error = ask(server, total_timeout=1)
    assert isinstance(error, RetryLater)
    assert "total_timeout" in error.message
    assert time.monotonic() - begun < 30


def test_an_answer_without_end_is_bounded(server: FaultyEndpoint) -> None:
    server.faults.endless = True
    error = ask(server)
    assert isinstance(error, FailStudy)
    assert "larger than" in error.message


def test_a_cut_connection_is_tried_again(server: FaultyEndpoint) -> None:
    server.faults.cuts = 2
    assert ask(server).text
    assert len(server.bodies) == 3


def test_a_server_that_is_away() -> None:
    with faulty_endpoint() as gone:
        pass
    assert isinstance(ask(gone, attempts=2), RetryLater)
    with pytest.raises(StopRun, match="start the server") as caught:
        open_served("openai-endpoint", gone, attempts=1)
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": "x"}',
        b'{"choices": [7]}',
        b'{"choices": ' + b"[" * 200_000,
        b"\xff\xfe",
    ],
)
def test_garbage_fails_the_study(server: FaultyEndpoint, body: bytes) -> None:
    server.faults.always = (200, {}, body)
    error = ask(server)
    assert isinstance(error, FailStudy)
    assert error.code == "endpoint-answer"


def test_a_compressed_answer_is_not_unpacked(server: FaultyEndpoint) -> None:
    server.faults.always = (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 10_000_000))
    assert isinstance(ask(server), FailStudy)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_a_failed_study(body: bytes) -> None:
    try:
        read_reply(body)
    except FailStudy:
        return


def test_a_lone_surrogate_does_not_get_further() -> None:
    reply = read_reply(b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "length"}]}')
    assert reply.text == "a?b"
    assert reply.truncated


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12.0),
        (" 0 ", 0.0),
        ("Fri, 27 Nov 2026 12:00:10 GMT", 10.0),
        ("Fri, 27 Nov 2020 12:00:10 GMT", 0.0),
        ("-3", None),
        ("soon", None),
        ("9" * 400, None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, datetime(2026, 11, 27, 12, tzinfo=UTC)) == seconds


def test_never_more_requests_than_allowed(server: FaultyEndpoint) -> None:
    server.faults.seconds = 0.05
    client = EndpointClient(quick_options(server.url, concurrency=3))
    threads = [threading.Thread(target=client.complete, args=([CHAT] * 4,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    client.close()
    assert len(server.bodies) == 12
    assert server.most == 3


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://host", "endpoint-url"),
        ("host:8000", "endpoint-url"),
        ("http://", "endpoint-url"),
        ("http://[", "endpoint-url"),
        ("http://user:hunter2@host", "endpoint-url"),
        ("http://host/v1?key=hunter2", "endpoint-url"),
    ],
)
def test_addresses_that_are_none(url: str, code: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EndpointOptions(url, "served")
    assert caught.value.code == code
    assert "hunter2" not in str(caught.value)


def test_an_untrusted_certificate_is_said(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    authority, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    with faulty_endpoint(tls=context) as secure:
        error = ask(secure)
        assert isinstance(error, ConfigurationError)
        assert "endpoint.ca_file" in error.message
        assert ask(secure, ca_file=authority).text
    with pytest.raises(ConfigurationError, match="ca_file"):
        EndpointClient(quick_options("https://127.0.0.1", ca_file=tmp_path / "absent.pem"))


def test_a_server_that_lists_nothing_is_asked_all_the_same(server: FaultyEndpoint) -> None:
    server.faults.lists_models = False
    with open_served("openai-endpoint", server) as family:
        assert family.parts["served/listed"] == "not listed"
        assert family.answer(family.encode([film_study(1)]), [Request()])[0].text


def test_a_refusal_is_said_when_the_family_opens(server: FaultyEndpoint) -> None:
    server.faults.key = "sk-right"
    with pytest.raises(ConfigurationError, match=r"endpoint\.api_key"):
        open_served("openai-endpoint", server, api_key="sk-wrong")


def test_the_configuration_reaches_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(
        '[model]\nid = "maira-2"\naccept_use_limits = true\nprecision = "bf16"\n'
        '[model.endpoint]\nurl = "http://127.0.0.1:1/v1"\nmodel = "maira"\nconcurrency = 7\n'
    )
    monkeypatch.setenv("FIRSTREAD_MODEL__ENDPOINT__API_KEY", "sk-secret")
    settings = load(path)
    choice = model_choice(settings.model)
    assert choice.endpoint == EndpointOptions("http://127.0.0.1:1/v1", "maira", "sk-secret", concurrency=7)
    assert choice.precision == "bf16"
    assert "sk-secret" not in repr(settings) + repr(choice)
    path.write_text('[model.endpoint]\nurl = "http://127.0.0.1:1"\nmodel = "x"\nkey = "hunter2"\n')
    with pytest.raises(ConfigurationError, match=r"endpoint\.key") as caught:
        load(path)
    assert "hunter2" not in str(caught.value)
