"""vLLM, SGLang and TensorRT-LLM as they document themselves: what is sent they take, what they answer is read."""

from collections.abc import Iterator

import pytest

from models.family import Request, Task
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater
from tests.documented_server import ANSWERED, SERVERS, Documented, documented_server
from tests.faulty_endpoint import FaultyEndpoint
from tests.served import SCHEMA, open_served
from tests.tiny_model import film_study


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Documented]:
    with documented_server(request.param) as running:
        yield running


def as_faulty(server: Documented) -> FaultyEndpoint:
    """The address as ``open_served`` takes it."""
    return FaultyEndpoint(server.url, None)  # type: ignore[arg-type]


def test_what_is_sent_is_what_they_take(server: Documented) -> None:
    with open_served("umit", as_faulty(server), special_tokens=True) as family:
        (answer,) = family.answer(family.encode([film_study(1)]), [Request()])
    assert answer.text == "Findings: clear lungs."
    assert not answer.truncated
    assert server.bodies[-1]["skip_special_tokens"] is False
    assert server.bodies[-1]["stream"] is False


def test_json_under_a_schema_comes_back(server: Documented) -> None:
    with open_served("medgemma-4b-it", as_faulty(server), json_schema=True) as family:
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
    with open_served("llava-med", as_faulty(server)) as family:
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
