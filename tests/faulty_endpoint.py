"""An OpenAI-compatible server on loopback that misbehaves as real ones do, one fault at a time."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback import LoopbackHandler, serving


@dataclass(slots=True)
class EndpointFaults:
    """What the server does wrong; each field is off by default."""

    first_answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """Status, headers and body of the first chat answers, before it behaves."""
    always: tuple[int, dict[str, str], bytes] | None = None
    stalls: bool = False
    drips: bool = False
    """A body of one byte a tenth of a second, without end."""
    endless: bool = False
    """A chunked body as fast as it goes, without end."""
    cuts: int = 0
    """So many first chat answers are cut after ten bytes; odd ones are reset."""
    seconds: float = 0.0
    """How long each answer takes."""
    key: str = ""
    finish: str = "stop"
    lists_models: bool = True


@dataclass(slots=True)
class FaultyEndpoint:
    """The running server: its base URL, its faults, the chat bodies it got, and the most at one time."""

    url: str
    faults: EndpointFaults
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    open: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    reply: Callable[[dict[str, Any]], str] = lambda body: "Findings: clear lungs.\nImpression: normal."


@contextmanager
def faulty_endpoint(faults: EndpointFaults | None = None, tls: Any = None) -> Iterator[FaultyEndpoint]:
    """Serve chat completions, wrongly. ``tls`` is an SSL context, for https."""
    running = FaultyEndpoint("", faults or EndpointFaults())
    with serving(_Handler, tls, running=running) as url:
        running.url = url
        yield running


class _Handler(LoopbackHandler):
    running: FaultyEndpoint

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path == "/v1/models" and self.running.faults.lists_models:
            listed = {
                "object": "list",
                "data": [{"id": "served", "root": "/models/served", "max_model_len": 4096}],
            }
            self._send(200, json.dumps(listed).encode())
        else:
            self._send(404, b"{}")

    def do_POST(self) -> None:
        faults = self.running.faults
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed():
            return
        if self.path != "/v1/chat/completions":
            self._send(404, b"{}")
            return
        with self.running.lock:
            self.running.bodies.append(json.loads(body))
            self.running.headers.append(dict(self.headers))
            self.running.open += 1
            self.running.most = max(self.running.most, self.running.open)
        try:
            self._chat(json.loads(body), faults)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up, as it should
        finally:
            with self.running.lock:
                self.running.open -= 1

    def _chat(self, body: dict[str, Any], faults: EndpointFaults) -> None:
        if faults.stalls:
            self.released.wait(30)
            self.close_connection = True
        elif faults.drips or faults.endless:
            self._never_end(0.1 if faults.drips else 0.0)
        elif faults.first_answers:
            self._send(*_reordered(faults.first_answers.pop(0)))
        elif faults.always is not None:
            self._send(*_reordered(faults.always))
        elif faults.cuts:
            faults.cuts -= 1
            self._cut(reset=bool(faults.cuts % 2))
        else:
            time.sleep(faults.seconds)
            choice = {"message": {"role": "assistant", "content": self.running.reply(body)}, "index": 0}
            self._send(200, json.dumps({"choices": [{**choice, "finish_reason": faults.finish}]}).encode())

    def _allowed(self) -> bool:
        key = self.running.faults.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self._send(401, b'{"error": "no"}')
            return False
        return True

    def _never_end(self, pause: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        part = b" " if pause else b" " * 65536
        while not self.released.wait(pause):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()

    def _cut(self, *, reset: bool) -> None:
        self.start(200, 1000)
        self.wfile.write(b'{"choices"')
        self.wfile.flush()
        self.close_connection = True
        if reset:
            self.reset()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.start(status, len(body), headers)
        self.wfile.write(body)


def _reordered(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, bytes, dict[str, str]]:
    status, headers, body = answer
    return status, body, headers
