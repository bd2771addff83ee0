"""A busy or dead server is left alone by all requests, and the answers that the documented servers give are read."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from models.families.endpoint.client import ChatMessage, EndpointClient, read_reply
from models.families.endpoint.shedding import FAULTS, FIRST_REST, Shedding
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.served import quick_options

CHAT = (ChatMessage("user", ("hello",)),)
VLLM = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "microsoft/maira-2",
    "choices": [{
        "index": 0, "message": {"role": "assistant", "content": "Clear lungs.", "tool_calls": []}, "logprobs": None,
        "finish_reason": "length", "stop_reason": None,
    }],
    "usage": {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3}, "prompt_logprobs": None,
}  # fmt: skip
"""A completion in the form that vLLM gives it, which reached its limit."""


@pytest.fixture
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


def error(message: str) -> tuple[int, dict[str, str], bytes]:
    """A refusal in the form that vLLM and SGLang give it."""
    body = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    return 400, {}, json.dumps(body).encode()


def asked(server: FaultyEndpoint, count: int = 1, **changes: Any) -> list[Any]:
    client = EndpointClient(quick_options(server.url, **changes))
    try:
        return client.complete([CHAT] * count)
    finally:
        client.close()


def test_what_the_server_asks_for_holds_for_every_request(server: FaultyEndpoint) -> None:
    server.faults.first_answers = [(429, {"Retry-After": "1"}, b"{}")]
    client = EndpointClient(quick_options(server.url, concurrency=2))
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.complete, [CHAT] * 6)
            time.sleep(0.6)
            assert len(server.bodies) <= 2, "one was refused; only what was under way with it was sent"
            assert all(getattr(one, "text", "") for one in waiting.result())
    finally:
        client.close()
    assert len(server.bodies) == 7


def test_a_dead_server_is_tried_by_one_request_alone(server: FaultyEndpoint) -> None:
    server.faults.always = (503, {}, b"{}")
    replies = asked(server, 40, attempts=1)
    assert all(isinstance(one, RetryLater) for one in replies)
    assert FAULTS <= len(server.bodies) <= FAULTS + 4, "those that were under way when it opened"


def test_the_circuit_closes_again() -> None:
    clock = [0.0]
    state = Shedding(lambda: clock[0])
    fault = RetryLater("endpoint-away", "away")
    for _ in range(FAULTS):
        state.enter()
        state.failed(fault)
    with pytest.raises(RetryLater, match="left alone") as shed:
        state.enter()
    assert shed.value.after_seconds == FIRST_REST
    clock[0] += FIRST_REST
    state.enter()  # the trial
    with pytest.raises(RetryLater, match="by another request"):
        state.enter()
    state.failed(fault)
    clock[0] += FIRST_REST
    with pytest.raises(RetryLater):
        state.enter()  # twice as long after a failed trial
    clock[0] += FIRST_REST
    state.enter()
    state.answered()
    state.enter()
    state.enter()


def test_another_models_answer_is_refused_by_name(server: FaultyEndpoint) -> None:
    whole = json.dumps({**VLLM, "model": "served"}).encode()
    server.faults.first_answers = [
        (200, {}, whole),
        (200, {}, json.dumps({**VLLM, "model": "llama-3"}).encode()),
    ]
    (reply,) = asked(server)
    assert (reply.text, reply.truncated) == ("Clear lungs.", True)
    (other,) = asked(server)
    assert isinstance(other, ConfigurationError)
    assert other.code == "endpoint-model"
    for named in ("microsoft/maira-2", "maira-2", "microsoft/MAIRA-2@main", "maira-2-2026-01-01"):
        assert read_reply(json.dumps({**VLLM, "model": named}).encode(), "microsoft/maira-2").text
    with pytest.raises(ConfigurationError):
        read_reply(json.dumps(VLLM).encode(), "microsoft/llava-rad")


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("At most 1 image(s) may be provided in one prompt.", ConfigurationError, "endpoint-images"),
        ("This model's maximum context length is 4096 tokens. However, you requested 4472 tokens (376 in the messages, "
         "4096 in the completion).", FailStudy, "endpoint-too-long"),
        ("The decoder prompt (length 10127) is longer than the maximum model length of 8192.", FailStudy,
         "endpoint-too-long"),
        ("The input (61709 tokens) is longer than the model's context length (40960 tokens).", FailStudy,
         "endpoint-too-long"),
        ("Invalid grammar specification.", FailStudy, "endpoint-refused"),
    ],
)  # fmt: skip
def test_documented_refusals_say_what_to_do(
    server: FaultyEndpoint, message: str, kind: type[FirstreadError], code: str
) -> None:
    server.faults.always = error(message)
    (reply,) = asked(server)
    assert isinstance(reply, kind)
    assert reply.code == code
    assert len(server.bodies) == 1, "asked once: it will not get better"
