"""Chat completions over HTTP: deadlines, bounded answers, retries only where they can help.

The requests hold text and images and nothing that names a patient or a study; neither requests nor answers are
logged, and no error repeats their words. One background loop per client serves all threads, so that the limit on
concurrent requests holds for the process and a total deadline ends even an answer that drips for ever.
"""

import asyncio
import json
import random
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

import httpx

from models.families.endpoint.queueing import ASK_AGAIN, METRICS, UnderWay, waiting_requests
from models.families.endpoint.refusals import refusal
from models.families.endpoint.shedding import Shedding
from models.families.endpoint.stream import EVENTS, completion_of
from models.model_choice import EndpointOptions
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, StopRun

MAX_ANSWER_BYTES = 4 << 20
MAX_STREAM_BYTES = 64 << 20
"""A stream tells some 250 bytes beside each token."""
GIVEN_UP = frozenset({"abort", "error", "cancelled", "timeout"})
"""Why an answer ended that is none: vLLM's and SGLang's own words, and TensorRT-LLM's."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
UNLISTED = ("endpoint-busy", "endpoint-model", "endpoint-answer", "endpoint-refused")
"""Answers to /v1/models that say nothing of the chat: transformers serve answers 500 where it has no cache folder."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a chat. ``parts`` are texts and PNG images in the order they are read."""

    role: str
    parts: tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The text that came back; ``truncated`` when it reached its limit.

    ``reasoning`` is what the server told apart from it as thinking.
    """

    text: str
    truncated: bool
    reasoning: str = ""


class EndpointClient:
    """One server, from any thread. Close it when done."""

    def __init__(self, options: EndpointOptions) -> None:
        """Make the client; no request is sent. Raises ConfigurationError for a CA file that cannot be read."""
        self._options = options
        base = options.url.rstrip("/")
        self._base = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if options.api_key:
            headers["Authorization"] = f"Bearer {options.api_key}"
        timeout = httpx.Timeout(
            options.read_timeout, connect=options.connect_timeout, pool=options.total_timeout
        )
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=timeout,
            verify=_trust(options),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=options.concurrency + 1),  # one for a look at the queue
        )
        self._under_way = UnderWay(options.concurrency)
        self._tells_queue = True
        self._shedding = Shedding()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    def complete(
        self, chats: Sequence[Sequence[ChatMessage]], schemas: Sequence[str] = ()
    ) -> list[Reply | FirstreadError]:
        """One reply per chat, in order; what befell one of them is in its place.

        ``schemas`` are JSON Schemas per chat, "" for none. Errors: ConfigurationError for a server that refuses us,
        FailStudy for a request it cannot answer, RetryLater for a server that is away.
        """
        wanted = schemas or [""] * len(chats)
        together = self._gather(list(zip(chats, wanted, strict=True)))
        return asyncio.run_coroutine_threadsafe(together, self._loop).result()

    def describe(self) -> dict[str, str]:
        """What the server says of the model: id, root and max_model_len where it lists them.

        Empty where it lists none. Raises StopRun when it cannot be reached, ConfigurationError when it refuses us.
        """
        listed = asyncio.run_coroutine_threadsafe(self._models(), self._loop).result()
        for one in listed:
            if isinstance(one, dict) and one.get("id") == self._options.model:
                return {key: str(one[key]) for key in ("id", "root", "max_model_len") if one.get(key)}
        return {}

    def close(self) -> None:
        """End open requests and the loop."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _gather(
        self, chats: Sequence[tuple[Sequence[ChatMessage], str]]
    ) -> list[Reply | FirstreadError]:
        look = asyncio.create_task(self._look_at_queue())
        try:
            return list(await asyncio.gather(*(self._one(chat, schema) for chat, schema in chats)))
        finally:
            look.cancel()

    async def _one(self, chat: Sequence[ChatMessage], schema: str) -> Reply | FirstreadError:
        async with self._under_way:
            try:
                body = await self._ask("POST", "/chat/completions", self._payload(chat, schema))
                return read_reply(body, self._options.model)
            except FirstreadError as error:
                return error

    async def _look_at_queue(self) -> None:
        """Let fewer requests be under way where the server tells of some that wait; one that tells nothing is left."""
        if not self._tells_queue or not self._under_way.due():
            return
        address = f"{self._base.removesuffix('/v1')}{METRICS}"
        try:
            async with asyncio.timeout(ASK_AGAIN), self._client.stream("GET", address) as answer:
                body = await _bounded(answer)
        except (httpx.HTTPError, FirstreadError, TimeoutError):
            return
        waiting = waiting_requests(body) if answer.status_code == 200 else None
        self._tells_queue = waiting is not None
        if waiting:
            self._under_way.crowded()

    async def _models(self) -> list[Any]:
        """What the server lists; nothing where it answers and lists nothing, as a worker of a site's own may."""
        try:
            listed = json.loads(await self._ask("GET", "/models", None))["data"]
        except FirstreadError as error:
            if error.code in ("endpoint-away", "endpoint-slow"):
                message = f"{error.message}; start the server, or correct endpoint.url"
                raise StopRun("endpoint-away", message) from None
            if error.code not in UNLISTED:
                raise
            return []
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        return listed if isinstance(listed, list) else []

    def _payload(self, chat: Sequence[ChatMessage], schema: str) -> bytes:
        options = self._options
        body: dict[str, Any] = {
            "model": options.model,
            "messages": [{"role": one.role, "content": _content(one.parts)} for one in chat],
            "max_tokens": options.max_tokens,
            "temperature": 0.0,
            "seed": options.seed,
            "stream": options.stream,
        }
        if options.special_tokens:
            body["skip_special_tokens"] = False
        if schema and options.json_schema:
            wanted = {"name": "answer", "strict": True, "schema": json.loads(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return json.dumps(body).encode()

    async def _ask(self, method: str, path: str, payload: bytes | None) -> bytes:
        """The body of the answer, after retries within the total deadline."""
        options = self._options
        try:
            async with asyncio.timeout(options.total_timeout):
                return await self._repeat(method, path, payload)
        except TimeoutError:
            message = (
                f"the endpoint did not answer within {options.total_timeout:g} s (endpoint.total_timeout)"
            )
            raise RetryLater("endpoint-slow", message) from None

    async def _repeat(self, method: str, path: str, payload: bytes | None) -> bytes:
        for attempt in range(1, self._options.attempts + 1):
            try:
                return await self._sent(method, path, payload)
            except RetryLater as error:
                if attempt == self._options.attempts:
                    raise
                pause = error.after_seconds
                if pause is None:
                    # jitter keeps many clients of one server from coming back at once
                    pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
                elif pause > LONGEST_PAUSE:
                    raise  # the ledger waits better than a thread that holds a place
                await asyncio.sleep(pause)
        raise AssertionError("attempts is at least 1")

    async def _sent(self, method: str, path: str, payload: bytes | None) -> bytes:
        """One request, unless the server is left alone for now."""
        self._shedding.enter()
        try:
            body = await self._once(method, path, payload)
        except RetryLater as error:
            self._shedding.failed(error)
            if error.code == "endpoint-busy":
                self._under_way.crowded()
            raise
        except asyncio.CancelledError:  # the deadline: it was silent
            self._shedding.failed(RetryLater("endpoint-slow", "no answer within the deadline"))
            raise
        except FirstreadError:
            self._shedding.answered()
            raise
        self._shedding.answered()
        self._under_way.answered()
        return body

    async def _once(self, method: str, path: str, payload: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json"} if payload is not None else {}
        try:
            async with self._client.stream(
                method, self._base + path, content=payload, headers=headers
            ) as answer:
                body = await _bounded(answer)
        except httpx.ConnectError as error:
            if _is_certificate(error):
                message = "the endpoint's certificate is not trusted: set endpoint.ca_file to its authority"
                raise ConfigurationError("endpoint-certificate", message) from None
            raise RetryLater("endpoint-away", "the endpoint cannot be reached") from None
        except httpx.TimeoutException:
            raise RetryLater("endpoint-slow", "the endpoint was silent for too long") from None
        except httpx.TransportError:
            raise RetryLater("endpoint-away", "the connection to the endpoint broke") from None
        if answer.status_code == 200:
            told = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return completion_of(body) if told == EVENTS else body
        raise refusal(answer.status_code, answer.headers, body)


def read_reply(body: bytes, model: str = "") -> Reply:
    """The text of a chat completion by ``model``.

    Raises FailStudy for anything that is not one, ConfigurationError where another model says that it wrote it.
    """
    try:
        stored = json.loads(body)
        choice, served = stored["choices"][0], stored.get("model")
        told, reason = choice["message"], choice.get("finish_reason")
        text, reasoning = told.get("content"), told.get("reasoning") or told.get("reasoning_content")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        text = reason = served = reasoning = None
    if isinstance(served, str) and served and model and not _same_model(served, model):
        message = (
            f"the endpoint answers as another model than {model}, which endpoint.model asks for: set endpoint.model to "
            "what it serves, or start it with this model"
        )
        raise ConfigurationError("endpoint-model", message)
    if isinstance(reason, str) and reason in GIVEN_UP:
        raise RetryLater("endpoint-busy", "the endpoint gave the answer up before its end")
    thought = _unicode(reasoning) if isinstance(reasoning, str) else ""
    if text is None and thought:  # it never came to its answer
        text = ""
    if not isinstance(text, str):
        message = "the endpoint's answer is not a chat completion with text; ask its maintainer for its log"
        raise FailStudy("endpoint-answer", message)
    return Reply(_unicode(text), reason == "length", thought)


def _unicode(text: str) -> str:
    """``text`` without lone surrogates, which can stand in JSON and in no UTF-8 text."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _same_model(served: str, asked: str) -> bool:
    """Whether two names may be of one model: servers add a date or revision, or leave the owner out."""
    one, other = served.casefold().rstrip("/"), asked.casefold().rstrip("/")
    ends = one.rpartition("/")[2], other.rpartition("/")[2]
    return one.startswith(other) or other.startswith(one) or ends[0].startswith(ends[1])


async def _bounded(answer: httpx.Response) -> bytes:
    """The raw body. Raises FailStudy where it is larger than any text can be, or packed although we asked for plain."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise FailStudy(
            "endpoint-answer", "the endpoint's answer is compressed although we did not ask for it"
        )
    most = MAX_STREAM_BYTES if EVENTS in answer.headers.get("Content-Type", "").lower() else MAX_ANSWER_BYTES
    parts, size = [], 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > most:
            message = f"the endpoint's answer is larger than {most >> 20} MiB; it is not a text"
            raise FailStudy("endpoint-answer", message)
        parts.append(part)
    return b"".join(parts)


def _content(parts: Sequence[str | bytes]) -> str | list[dict[str, Any]]:
    """A message's content: plain text where there is no image, since some servers take no list without one."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        else:
            url = "data:image/png;base64," + b64encode(part).decode("ascii")
            content.append({"type": "image_url", "image_url": {"url": url}})
    return content


def _trust(options: EndpointOptions) -> ssl.SSLContext:
    if options.url.startswith("http:"):
        return ssl.SSLContext(
            ssl.PROTOCOL_TLS_CLIENT
        )  # trusts nobody; reading the system's authorities takes 50 ms
    try:
        return ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        message = f"endpoint.ca_file cannot be read as certificates ({type(error).__name__})"
        raise ConfigurationError("endpoint-certificate", message) from None


def _is_certificate(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
