"""Streams that are none, and the gate of the requests under way."""

import asyncio
import json

import pytest

from models.families.endpoint.client import read_reply
from models.families.endpoint.queueing import ASK_AGAIN, UnderWay, waiting_requests
from models.families.endpoint.stream import completion_of
from pipeline.errors import FailStudy, RetryLater


def event(text: str = "", finish: str | None = None, **delta: str) -> bytes:
    """One chunk as an event."""
    choice = {"delta": {"content": text, **delta}, "finish_reason": finish}
    return f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode()


def test_thinking_is_kept_apart_from_the_text_of_a_stream() -> None:
    body = event(reasoning_content="Look ") + event(reasoning="twice.") + event("Clear", "length")
    reply = read_reply(completion_of(body), "m")
    assert (reply.text, reply.reasoning, reply.truncated) == ("Clear", "Look twice.", True)


def test_comments_other_fields_and_other_line_ends_are_those_of_the_standard() -> None:
    inner = event("Clear \u00fc", "stop").decode().strip().replace('"choices"', '\r\ndata: "choices"')
    body = f": ping\r\n\r\nid: 1\r\n{inner}\r\n\r\ndata:[DONE]\r\n\r\n".encode()
    assert read_reply(completion_of(body)).text == "Clear \u00fc"


@pytest.mark.parametrize("body", [b"", b"data: [DONE]\n\n", event("half"), event("whole", "stop").rstrip()])
def test_a_stream_without_its_end_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(RetryLater, match="before its answer did"):
        completion_of(body)


@pytest.mark.parametrize(
    "data", [b"[]", b"{", b'{"choices": [1]}', b'{"choices": 3}', b'{"choices": [{"delta": "x"}]}']
)
def test_events_that_are_no_chunks_fail_the_study(data: bytes) -> None:
    with pytest.raises(FailStudy, match="not of chat completion chunks"):
        completion_of(b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    "data", [b'{"error": {"message": "x"}}', b'{"object": "error"}', b'{"error": "in "quotes""}']
)
def test_an_error_among_the_events_is_worth_another_try(data: bytes) -> None:
    with pytest.raises(RetryLater, match="gave up in the middle"):
        completion_of(event("half") + b"data: " + data + b"\n\n")


def test_the_number_under_way_falls_by_half_and_grows_by_one() -> None:
    clock = [0.0]
    gate = UnderWay(8, lambda: clock[0])
    gate.crowded()
    gate.crowded()  # the same crowd
    assert gate.room == 4
    for _ in range(20):
        clock[0] += ASK_AGAIN
        gate.crowded()
    assert gate.room == 1
    gate.answered()
    assert gate.room == 2
    for _ in range(100):
        gate.answered()
    assert gate.room == 8


def test_the_gate_lets_in_as_many_as_it_has_room_for() -> None:
    async def most() -> int:
        gate, inside, seen = UnderWay(4), 0, []
        gate.crowded()

        async def one() -> None:
            nonlocal inside
            async with gate:
                inside += 1
                seen.append(inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(9)))
        assert len(seen) == 9
        return max(seen)

    assert asyncio.run(most()) == 2


@pytest.mark.parametrize(
    ("body", "waiting"),
    [
        (b"vllm:num_requests_waiting 3\nvllm:num_requests_waiting_by_reason 7\n", 3),
        (b'vllm:num_requests_waiting{engine="0"} 1.0\nvllm:num_requests_waiting{engine="1"} 2e0\n', 3),
        (b"sglang:num_running_reqs 9\n", None),
        (b'[{"numQueuedRequests": true}]', None),
        (b"[]", None),
        (b"<html>", None),
    ],
)
def test_what_is_read_of_a_queue(body: bytes, waiting: int | None) -> None:
    assert waiting_requests(body) == waiting
