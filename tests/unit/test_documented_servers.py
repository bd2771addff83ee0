"""vLLM, SGLang and TensorRT-LLM as they document themselves: what is sent they take, what they answer is read."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from models.families.endpoint.client import ChatMessage, EndpointClient, Reply
from models.family import Request, Task
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater
from tests.documented_server import ANSWERED, SERVERS, Documented, documented_server
from tests.faulty_endpoint import FaultyEndpoint
from tests.served import SCHEMA, open_served, quick_options
from tests.tiny_model import film_study

CHAT = (ChatMessage("user", ("hello",)),)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Documented]:
    with documented_server(request.param) as running:
        yield running


def as_faulty(server: Documented) -> FaultyEndpoint:
    """The address as ``open_served`` takes it."""
    return FaultyEndpoint(server.url, None)  # type: ignore[arg-type]


def test_what_is_sent_is_what_they_take(server: Documented) -> None:
    with open_served("umit", as_faulty(server), special_tokens=True, stream=True) as family:
        (answer,) = family.answer(family.encode([film_study(1)]), [Request()])
    assert answer.text == "Findings: clear lungs."
    assert not answer.truncated
    assert server.bodies[-1]["skip_special_tokens"] is False
    assert server.bodies[-1]["stream"] is True


def client_of(server: Documented, **changes: Any) -> EndpointClient:
    """A client with the patience of tests."""
    return EndpointClient(quick_options(server.url, **{"stream": True, **changes}))


def test_a_stream_that_is_slow_is_waited_for_and_an_answer_that_is_late_is_not() -> None:
    """Eight chunks, each of which comes in time, and all of them together do not."""
    with documented_server("vllm") as server:
        server.pause = 0.11
        with closing(client_of(server, read_timeout=0.8, attempts=1)) as client:
            (reply,) = client.complete([CHAT])
        with closing(client_of(server, read_timeout=0.8, attempts=1, stream=False)) as client:
            (late,) = client.complete([CHAT])
    assert isinstance(reply, Reply)
    assert (reply.text, reply.truncated) == ("Findings: clear lungs.", False)
    assert isinstance(late, RetryLater)
    assert late.code == "endpoint-slow"


@pytest.mark.parametrize(("breaks", "code"), [("error", "endpoint-busy"), ("cut", "endpoint-away")])
def test_half_an_answer_is_none_and_is_asked_for_again(server: Documented, breaks: str, code: str) -> None:
    server.breaks = breaks
    with closing(client_of(server, attempts=1)) as client:
        (once,) = client.complete([CHAT])
        assert isinstance(once, RetryLater)
        assert once.code == code
    server.breaks = breaks
    with closing(client_of(server, attempts=2)) as client:
        (again,) = client.complete([CHAT])
    assert isinstance(again, Reply)
    assert again.text == "Findings: clear lungs."


def test_fewer_requests_are_under_way_while_the_server_tells_of_a_queue(server: Documented) -> None:
    server.waiting, server.pause = 5, 0.02
    with closing(client_of(server, concurrency=4)) as client:
        client.complete([CHAT] * 4)
        server.most = 0
        replies = client.complete([CHAT] * 4)
    assert all(isinstance(one, Reply) for one in replies)
    assert server.most < 4, "half of four, and one more when two have been answered"


def test_a_server_without_metrics_gets_what_the_site_allows(server: Documented) -> None:
    server.pause = 0.2  # four are there before the first is answered, on a busy machine too
    with closing(client_of(server, concurrency=4)) as client:
        client.complete([CHAT] * 4)
    assert server.most == 4


def test_json_under_a_schema_comes_back(server: Documented) -> None:
    with open_served("medgemma-4b-it", as_faulty(server), json_schema=True, stream=True) as family:
        features = family.encode([film_study(1)])
        asked = Request(Task.STRUCTURED, text="A left effusion.", schema=SCHEMA)
        (answer,) = family.answer(features, [asked])
        assert answer.structured == ANSWERED
        server.finish = "length"  # cut off under a grammar it is no whole JSON
        (cut,) = family.answer(features, [asked])
        assert cut.truncated
        assert cut.structured == ""


@pytest.mark.parametrize(
    ("finish", "kind", "code"),
    [("abort", RetryLater, "endpoint-busy"), ("content_filter", FailStudy, "endpoint-answer")],
)
def test_an_answer_that_was_given_up_is_no_draft(
    server: Documented, finish: str, kind: type[FirstreadError], code: str
) -> None:
    server.finish = finish
    with open_served("llava-med", as_faulty(server), stream=True) as family:
        features = family.encode([film_study(1)])
        with pytest.raises(kind) as refused:
            family.answer(features, [Request()])
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 4472 tokens.", FailStudy,
         "endpoint-too-long"),
        ("The input (61709 tokens) is longer than the model's context length (40960 tokens).", FailStudy,
         "endpoint-too-long"),
        ("At most 1 image(s) may be provided in one prompt.", ConfigurationError, "endpoint-images"),
        ("Invalid grammar specification.", FailStudy, "endpoint-refused"),
    ],
)  # fmt: skip
def test_a_refusal_in_their_form_says_what_to_do(
    server: Documented, message: str, kind: type[FirstreadError], code: str
) -> None:
    with open_served("llava-med", as_faulty(server)) as family:
        features = family.encode([film_study(1)])
        server.refusal = message
        with pytest.raises(kind) as refused:
            family.answer(features, [Request()])
    assert refused.value.code == code
    assert len(server.bodies) == 1, "asked once: it will not get better"
