"""A streamed chat completion put together: server-sent events of chunks to one completion.

Chunks are those of OpenAI's protocol as vLLM, SGLang and TensorRT-LLM write them: the text in ``choices[0].delta``, the
reason of the end in the last of them, then perhaps one with ``usage`` alone, then ``[DONE]``. An error may come in the
middle as an event of its own, after the status was 200.
"""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.errors import FailStudy, RetryLater

EVENTS = "text/event-stream"
DONE = "[DONE]"
GAVE_UP = "the endpoint gave up in the middle of its answer"
THOUGHT = ("reasoning", "reasoning_content")


def completion_of(body: bytes) -> bytes:
    """The completion that the events of ``body`` are, as one JSON text in the form of an answer that is not streamed.

    Raises RetryLater where the server gave up in the middle or the stream ends before its answer does, FailStudy for
    events that are no chunks.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    finish: str | None = None
    model: str | None = None
    for event in _events(body):
        if event == DONE:
            break
        chunk = _chunk(event)
        named = chunk.get("model")
        model = named if isinstance(named, str) and named else model
        for choice in chunk.get("choices") or ():
            delta, reason = choice.get("delta") or {}, choice.get("finish_reason")
            _take(texts, delta.get("content"))
            _take(thoughts, next((delta[name] for name in THOUGHT if delta.get(name)), None))
            finish = reason if isinstance(reason, str) else finish
    if finish is None:
        raise RetryLater("endpoint-away", "the endpoint's stream ended before its answer did")
    # a first chunk has "" for its text even where none is to come, as after a content filter
    told = {"role": "assistant", "content": "".join(texts) or None, "reasoning": "".join(thoughts)}
    return json.dumps({"model": model, "choices": [{"message": told, "finish_reason": finish}]}).encode()


def _events(body: bytes) -> Iterator[str]:
    """The data of each event (WHATWG HTML 9.2.6): its lines joined; comments and other fields are left out."""
    lines: list[str] = []
    for line in body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data:"):
            lines.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _chunk(event: str) -> dict[str, Any]:
    try:
        chunk = json.loads(event)
        sound = isinstance(chunk, dict) and all(
            isinstance(one, dict) and isinstance(one.get("delta") or {}, dict)
            for one in chunk.get("choices") or ()
        )
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound and event.startswith('{"error"'):  # transformers serve puts words in quotes as they are
        raise RetryLater("endpoint-busy", GAVE_UP)
    if not sound:
        raise FailStudy(
            "endpoint-answer",
            "the endpoint's stream is not of chat completion chunks; ask its maintainer for its log",
        )
    if chunk.get("error") or chunk.get("object") == "error":
        raise RetryLater("endpoint-busy", GAVE_UP)
    return dict(chunk)


def _take(parts: list[str], text: Any) -> None:
    if isinstance(text, str):
        parts.append(text)
