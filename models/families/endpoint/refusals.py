"""What an answer that is not 200 means for the caller: try again, this study alone, or a setting to change."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater

WORTH_REPEATING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
TOO_LONG_MARKS = (
    "context length",
    "context_length",
    "max_model_len",
    "too many tokens",
    "too long",
    "longer than",
    "maximum model length",
)
"""What servers write of a prompt that exceeds their context: vLLM, SGLang, TensorRT-LLM and OpenAI."""


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> FirstreadError:
    """The error for an answer that is not 200; its words are looked at and never repeated."""
    if status in WORTH_REPEATING:
        seconds = retry_after(headers.get("Retry-After", ""), datetime.now(UTC))
        return RetryLater("endpoint-busy", f"the endpoint answered {status}", after_seconds=seconds)
    if status in (401, 403):
        message = f"the endpoint answered {status}: set endpoint.api_key to a key it accepts for this model"
        return ConfigurationError("endpoint-key", message)
    if status in (404, 405):
        message = (
            f"the endpoint answered {status}: endpoint.url ends before /v1 or with it, and endpoint.model is a name "
            "that the server lists under /v1/models"
        )
        return ConfigurationError("endpoint-model", message)
    if 300 <= status < 400:
        message = (
            f"the endpoint redirects ({status}), which is refused: set endpoint.url to the final address"
        )
        return ConfigurationError("endpoint-redirect", message)
    words = body[:65536].decode("utf-8", "replace").lower()
    if status == 413 or (status in (400, 422) and any(mark in words for mark in TOO_LONG_MARKS)):
        message = (
            f"the request is longer than the served model takes ({status}): ask with fewer or smaller images "
            "(endpoint.max_side), or serve it with a longer context"
        )
        return FailStudy("endpoint-too-long", message)
    if status in (400, 422) and "image(s) may be provided" in words:  # vLLM
        message = (
            f"the endpoint takes fewer images in one prompt than this family shows ({status}): start it with more "
            "(vLLM: --limit-mm-per-prompt; docs/serving.md)"
        )
        return ConfigurationError("endpoint-images", message)
    message = f"the endpoint refused the request ({status}); its log says why"
    return FailStudy("endpoint-refused", message)


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 10.2.3), None where it says nothing usable."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 9 else None
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())
