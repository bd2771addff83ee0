"""A server on loopback that takes and answers chats as vLLM, SGLang and TensorRT-LLM document it: their fields alone.

Sources: vllm-project/vllm 0052bed ``vllm/entrypoints/openai/protocol.py``; sgl-project/sglang
``openai/protocol.py`` (finish_reason stop, length, content_filter or abort; ``matched_stop``) and 012bcb5
``serving_base.py``; NVIDIA/TensorRT-LLM 0076e93 ``tensorrt_llm/serve/openai_protocol.py``, which refuses a field that
it does not know.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback import LoopbackHandler, serving

COMMON = frozenset({
    "model", "messages", "max_tokens", "temperature", "seed", "stream", "response_format", "skip_special_tokens",
    "top_p", "n", "stop", "user", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias",
    "tools", "tool_choice", "stream_options", "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos",
})  # fmt: skip
"""Fields of a request that all three name; theirs beyond these are not needed here."""
FIELDS = {
    "vllm": COMMON | {"max_completion_tokens", "guided_json"},
    "sglang": COMMON | {"regex", "ebnf"},
    "trtllm": COMMON | {"best_of", "thinking_token_budget"},
}
SERVERS = tuple(FIELDS)
ANSWERED = '{"effusion": true}'


@dataclass(slots=True)
class Documented:
    """The running server: its address, which one it is, how it ends its answers, and the requests it took."""

    url: str
    kind: str
    finish: str = "stop"
    refusal: str = ""
    """What it says no with, 400."""
    breaks: str = ""
    """What befalls the first stream in its middle: "error" as an event of its own, or "cut"."""
    pause: float = 0.0
    """Seconds before each chunk, and before an answer that is not streamed for each that it would have."""
    waiting: int | None = None
    """Requests in its queue, by its metrics; None where it has none."""
    open: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    bodies: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def documented_server(kind: str) -> Iterator[Documented]:
    """One of ``SERVERS`` on loopback."""
    running = Documented("", kind)
    with serving(_Handler, None, running=running) as url:
        running.url = url
        yield running


def error_body(kind: str, message: str) -> dict[str, Any]:
    """A refusal in the form of the server: vLLM's newer one is nested."""
    told = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return {"error": told} if kind == "vllm" else {"object": "error", **told}


def completion(kind: str, model: str, text: str | None, finish: str) -> dict[str, Any]:
    """A chat completion in the form of the server."""
    choice: dict[str, Any] = {
        "index": 0, "message": {"role": "assistant", "content": text, "reasoning_content": None, "tool_calls": []},
        "logprobs": None, "finish_reason": finish,
    }  # fmt: skip
    choice |= {"matched_stop": 151645} if kind == "sglang" else {"stop_reason": None}
    usage: dict[str, Any] = {"prompt_tokens": 30, "total_tokens": 37, "completion_tokens": 7}
    if kind != "sglang":
        usage["prompt_tokens_details"] = None
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
    }
    return (
        whole | {"usage": usage} | ({"metadata": {"weight_version": "default"}} if kind == "sglang" else {})
    )


def chunks(kind: str, model: str, text: str | None, finish: str) -> list[dict[str, Any]]:
    """The chunks of a streamed completion in the form of the server, the usage in the last one."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if reason:
            choice |= {"matched_stop": 151645} if kind == "sglang" else {"stop_reason": None}
        named = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return {**named, "choices": [choice]} | ({"usage": None} if kind == "sglang" else {})

    pieces = [text[start : start + 5] for start in range(0, len(text), 5)] if text else []
    usage = {"prompt_tokens": 30, "total_tokens": 37, "completion_tokens": 7}
    none = {"reasoning_content": None, "tool_calls": None} if kind != "vllm" else {}
    return [
        chunk({"role": "assistant", "content": "", **none}),
        *(chunk({"content": piece, **none}) for piece in pieces),
        chunk({} if kind == "trtllm" else {"content": None if kind == "sglang" else ""}, finish),
        {**chunk({}), "choices": [], "usage": usage},
    ]


def metrics(kind: str, waiting: int) -> str:
    """What ``/metrics`` tells of the queue: Prometheus' gauges, TensorRT-LLM's statistics of its last iterations."""
    if kind == "trtllm":
        return json.dumps([{"numQueuedRequests": 9, "iter": 1}, {"numQueuedRequests": waiting, "iter": 2}])
    name = {"vllm": "vllm:num_requests_waiting", "sglang": "sglang:num_queue_reqs"}[kind]
    running = {"vllm": "vllm:num_requests_running", "sglang": "sglang:num_running_reqs"}[kind]
    return (
        f'# HELP {name} Number of requests waiting.\n# TYPE {name} gauge\n{running}{{model_name="m"}} 4.0\n'
        f'{name}{{engine="0",model_name="m"}} {float(waiting)}\n'
    )


class _Handler(LoopbackHandler):
    running: Documented

    def do_GET(self) -> None:
        if self.path == "/metrics":
            waiting = self.running.waiting
            self._plain(404 if waiting is None else 200, metrics(self.running.kind, waiting or 0).encode())
            return
        listed = {
            "object": "list",
            "data": [{"id": "served", "object": "model", "created": 1, "owned_by": self.running.kind}],
        }
        self._told(200, listed)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        running = self.running
        running.bodies.append(body)
        unknown = set(body) - FIELDS[running.kind]
        refused = running.refusal or (f"Extra inputs are not permitted: {unknown}" if unknown else "")
        refused = refused or _misformed(body.get("response_format"))
        if refused:
            self._told(400, error_body(running.kind, refused))
            return
        text = ANSWERED if "response_format" in body else "Findings: clear lungs."
        given = None if running.finish == "content_filter" else text
        with running.lock:
            running.open += 1
            running.most = max(running.most, running.open)
        try:
            told = chunks(running.kind, body["model"], given, running.finish)
            if body["stream"]:
                self._stream(told)
            else:
                self.released.wait(running.pause * len(told))
                self._told(200, completion(running.kind, body["model"], given, running.finish))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up, as it should
        finally:
            with running.lock:
                running.open -= 1

    def _stream(self, told: list[dict[str, Any]]) -> None:
        """Server-sent events in chunked coding; what breaks does so after the third chunk."""
        breaks, self.running.breaks = self.running.breaks, ""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in told[: 3 if breaks else None]:
            self.released.wait(self.running.pause)
            self._event(json.dumps(chunk))
        if breaks == "cut":
            self.close_connection = True
            self.reset()
            return
        if breaks:
            self._event(json.dumps(error_body(self.running.kind, "CUDA out of memory")))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        content = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def _told(self, status: int, body: dict[str, Any]) -> None:
        self._plain(status, json.dumps(body).encode())

    def _plain(self, status: int, content: bytes) -> None:
        self.start(status, len(content))
        self.wfile.write(content)


def _misformed(wanted: Any) -> str:
    """What is wrong with a response_format: the schema stands under ``json_schema.schema`` beside its name."""
    if wanted is None:
        return ""
    if set(wanted) != {"type", "json_schema"} or wanted["type"] != "json_schema":
        return "response_format is not of the type json_schema"
    inner = wanted["json_schema"]
    if not isinstance(inner.get("name"), str) or not isinstance(inner.get("schema"), dict):
        return "response_format.json_schema needs name and schema"
    return (
        "" if set(inner) <= {"name", "description", "schema", "strict"} else "Extra inputs are not permitted"
    )
