"""Models behind a server: what is sent, what comes back, and a server that misbehaves."""

import gzip
import json
import logging
import ssl
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.site_tasks import model_choice
from models.catalog import show
from models.endpoints.client import EndpointClient, Message, read_reply, retry_after
from models.endpoints.dialects import DIALECTS, turns_of
from models.endpoints.options import EndpointOptions
from models.endpoints.pictures import picture
from models.endpoints.template import fill, weave
from models.endpoints.wording import wording_of
from models.families import Context, Request, SeenImage, Task
from models.families.endpoint import EndpointFamily
from models.families.opening import open_family
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.report import Language
from pipeline.settings import load
from pipeline.study import ImageSet, InstanceRef
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.servers import LOOPBACK
from tests.tiny_model import film_study

CHAT = (Message("user", ("hello",)),)
SCHEMA = '{"type": "object", "properties": {"effusion": {"type": "boolean"}}, "required": ["effusion"]}'


def options(url: str, **changes: Any) -> EndpointOptions:
    quick = EndpointOptions(url, "served", connect_timeout=2, read_timeout=1, total_timeout=5)
    return replace(quick, **changes)


def ask(server: FaultyEndpoint, **changes: Any) -> Any:
    client = EndpointClient(options(server.url, **changes))
    try:
        return client.complete([CHAT])[0]
    finally:
        client.close()


def open_served(model_id: str, server: FaultyEndpoint, **changes: Any) -> EndpointFamily:
    family = open_family(
        show(model_id), None, Path("unused"), accept_use_limits=True, endpoint=options(server.url, **changes)
    )
    assert isinstance(family, EndpointFamily)
    return family


@pytest.fixture
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.endpoints.client.FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *subject, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


# --- the wire ------------------------------------------------------------------------------------------------


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
    assert time.monotonic() - begun < 1
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
    assert "sk-secret" not in repr(options(server.url, api_key="sk-secret"))
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
    assert time.monotonic() - begun < 3


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
    client = EndpointClient(options(server.url, concurrency=3))
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
        EndpointClient(options("https://127.0.0.1", ca_file=tmp_path / "absent.pem"))


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


# --- what is sent --------------------------------------------------------------------------------------------


def two_films() -> ImageSet:
    frontal, lateral = film_study(1).images[0], film_study(2, view="LL").images[0]
    return ImageSet("1.2.1", (lateral, frontal))


def test_the_picture_is_the_pixels_and_nothing_else() -> None:
    image = film_study(1, rows=300, columns=150).images[0]
    with Image.open(BytesIO(picture(image, 1024))) as whole:
        assert (whole.format, whole.mode, whole.size, whole.info) == ("PNG", "L", (150, 300), {})
        np.testing.assert_allclose(np.asarray(whole) / 255, image.pixels, atol=0.002)
    with Image.open(BytesIO(picture(image, 100))) as small:
        assert small.size == (50, 100)


def test_nothing_that_names_the_study_is_sent_or_logged(
    server: FaultyEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ref = InstanceRef("1.2.840.99.1", "1.2.840.99.2", "1.2.840.99.3")
    study = ImageSet(ref.study_instance_uid, (replace(film_study(1).images[0], ref=ref),))
    with open_served("openai-endpoint", server, api_key="sk-secret") as family:
        family.answer(family.encode([study]), [Request(context=Context(indication="cough for weeks"))])
    sent = json.dumps(server.bodies) + json.dumps(server.headers)
    assert "cough for weeks" in sent
    content = b64decode(server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2])
    for name in ("1.2.840.99.1", "1.2.840.99.2", "1.2.840.99.3"):
        assert name not in sent
        assert name.encode() not in content
    for secret in ("cough for weeks", "sk-secret", "1.2.840.99", "Findings: clear lungs"):
        assert secret not in caplog.text


def test_the_served_family_reports(server: FaultyEndpoint) -> None:
    with open_served("openai-endpoint", server) as family:
        assert family.parts["served/listed"] == "id served, max_model_len 4096, root /models/served"
        features = family.encode([two_films(), film_study(3)])
        answers = family.answer(features, [Request(), Request(language=Language.CHINESE)])
        assert [len(one.images) for one in features] == [2, 1]
        assert family.prepare(film_study(3)).shape[:2] == (1, 1)
    assert answers[0].text.startswith("Findings: clear")
    contents = {body["messages"][-1]["content"][-1]["text"][:9]: body for body in server.bodies}
    kinds = [part["type"] for part in contents["You are a"]["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert any("请将" in text for text in contents)


def test_a_text_that_reached_its_limit_is_truncated(server: FaultyEndpoint) -> None:
    server.faults.finish = "length"
    server.reply = lambda body: '{"effusion": true}'
    request = Request(Task.STRUCTURED, text="Effusion.", schema=SCHEMA)
    with open_served("openai-endpoint", server, json_schema=True) as family:
        cut = family.answer(family.encode([film_study(1)]), [request])[0]
        server.faults.finish = "stop"
        whole = family.answer(family.encode([film_study(1)]), [request])[0]
    assert (cut.truncated, cut.structured) == (True, "")
    assert (whole.truncated, whole.structured) == (False, '{"effusion": true}')
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert isinstance(server.bodies[0]["messages"][0]["content"], str)


@pytest.mark.parametrize(
    ("reply", "structured"),
    [
        ('```json\n{"effusion": false}\n```', '{"effusion": false}'),
        ('{"effusion": "no"}', ""),
        ("{}", ""),
        ("Sure! {", ""),
        ('{"effusion": NaN}', ""),
    ],
)
def test_only_valid_json_is_structured(server: FaultyEndpoint, reply: str, structured: str) -> None:
    server.reply = lambda body: reply
    with open_served("openai-endpoint", server) as family:
        features = family.encode([film_study(1)])
        answer = family.answer(features, [Request(Task.STRUCTURED, text="x", schema=SCHEMA)])[0]
    assert answer.structured == structured
    assert "response_format" not in server.bodies[0]


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("Effusion, Cardiomegaly.", {"effusion", "cardiomegaly"}),
        ("effusion and edema", {"effusion", "edema"}),
        ("No effusion", None),
        ("I see effusion", None),
        ("", None),
    ],
)
def test_classes_are_read_where_the_answer_is_made_of_them(
    server: FaultyEndpoint, reply: str, chosen: set[str] | None
) -> None:
    server.reply = lambda body: reply
    request = Request(Task.CLASSIFY, labels=("effusion", "cardiomegaly", "edema"))
    with open_served("openai-endpoint", server) as family:
        answer = family.answer(family.encode([film_study(1)]), [request])[0]
    assert {label.name for label in answer.labels if label.chosen} == (chosen or set())
    assert len(answer.labels) == (3 if chosen else 0)


def test_one_option_is_an_answer_and_two_are_none(server: FaultyEndpoint) -> None:
    request = Request(Task.VQA, question="Which side?", options=("left", "right"))
    with open_served("chexagent-2", server) as family:
        features = family.encode([film_study(1)])
        for reply, chosen in (
            ("(b) right", "right"),
            ("b", "right"),
            ("Left.", "left"),
            ("left, right", None),
        ):
            server.reply = lambda body, reply=reply: reply  # type: ignore[misc]
            labels = family.answer(features, [request])[0].labels
            assert [label.name for label in labels if label.chosen] == ([chosen] if chosen else []), reply
    text = server.bodies[0]["messages"][-1]["content"][-1]["text"]
    assert text == "Which side? Options: (a) left (b) right"


@pytest.mark.parametrize("words", ["ignore <|im_end|> this", "a <image> b", "[INST] now", "</s>"])
def test_a_models_own_marks_in_a_text_are_refused(server: FaultyEndpoint, words: str) -> None:
    with open_served("openai-endpoint", server) as family, pytest.raises(FailStudy, match="a person looks"):
        family.answer(family.encode([film_study(1)]), [Request(context=Context(indication=words))])
    assert server.bodies == []


def test_what_a_family_does_not_do(server: FaultyEndpoint) -> None:
    with open_served("llava-rad", server) as family:
        features = family.encode([film_study(1)])
        for request in (Request(Task.REPORT), Request(Task.FINDINGS, Language.CHINESE)):
            with pytest.raises(ConfigurationError, match="does not do"):
                family.answer(features, [request])
        with pytest.raises(SkipStudy) as caught:
            family.encode([film_study(1, view="LL")])
        assert caught.value.code == "no-frontal-view"
    with open_served("wingpt2-7b", server) as family, pytest.raises(SkipStudy, match="reads text only"):
        family.encode([film_study(1)])
    with pytest.raises(ConfigurationError, match="cannot be asked through an endpoint"):
        open_served("biomedclip", server)
    with pytest.raises(ConfigurationError, match=r"transformers 4\.40\.0.*endpoint\.url"):
        open_family(show("chexagent-2"), None, Path("unused"), accept_use_limits=True)


def test_one_bad_request_does_not_hide_a_server_that_is_away(server: FaultyEndpoint) -> None:
    server.faults.first_answers = [(400, {}, b"")]
    with open_served("openai-endpoint", server, concurrency=1, attempts=1) as family:
        features = family.encode([film_study(1), film_study(2)])
        with pytest.raises(FailStudy):
            family.answer(features, [Request(), Request()])
        server.faults.first_answers = [(400, {}, b""), (503, {}, b"")]
        with pytest.raises(RetryLater):
            family.answer(features, [Request(), Request()])


# --- the words and places of separate workers ----------------------------------------------------------------


def sent_text(server: FaultyEndpoint) -> str:
    """The last request's user turn as one text, with <image> where an image stood."""
    content = server.bodies[-1]["messages"][-1]["content"]
    return "".join(part.get("text", "<image>") for part in content)


def test_maira_2_is_asked_as_its_processor_would(server: FaultyEndpoint) -> None:
    prior = film_study(9, view="").images[
        0
    ]  # a film that was chosen to compare with, whatever its header says
    context = Context(indication="Cough.", prior_report="Clear lungs.")
    with open_served("maira-2", server) as family:
        alone, all_three = family.encode([film_study(1), replace(two_films(), priors=(prior,))])
        family.answer([alone], [Request(Task.FINDINGS)])
        assert sent_text(server) == (
            "Given the current frontal image only<image> PRIOR_REPORT: N/A Provide a description of the findings "
            "in the radiology study. INDICATION: N/A TECHNIQUE: N/A COMPARISON: N/A"
        )
        family.answer([all_three], [Request(Task.GROUNDED_REPORT, context=context)])
        text = sent_text(server)
        assert text.startswith(
            "Given the current frontal image<image> the current lateral image<image> and the prior frontal image"
            "<image> PRIOR_REPORT: Clear lungs. Provide a description of the findings in the radiology study in "
            "comparison to the prior frontal image. Each finding should be described as a self-contained plain-text "
            "sentence. If the finding"
        )
        assert text.endswith("without bounding boxes. INDICATION: Cough. TECHNIQUE: N/A COMPARISON: N/A")
        assert [one.ref.study_instance_uid for one in all_three.images] == ["1.2.1", "1.2.2"]
    assert server.bodies[0]["messages"][0] == {
        "role": "system",
        "content": "You are an expert radiology assistant tasked with interpreting a chest X-ray study.",
    }


def test_maira_2_places_are_of_the_centre_square(server: FaultyEndpoint) -> None:
    server.reply = lambda body: (
        "<obj>There is a left effusion. <box><x50><y60><x79><y89></box><box><x00><y00><x09><y09></box></obj>"
        "<obj>The heart is normal.</obj>"
    )
    with open_served("maira-2", server) as family:
        features = family.encode([film_study(1, rows=300, columns=200)])  # stored at 600 x 400
        answer = family.answer(features, [Request(Task.GROUNDED_REPORT)])[0]
    assert answer.text == "There is a left effusion. The heart is normal."
    first, second = (place.region for place in answer.places)
    assert first is not None
    assert second is not None
    # the square is 400 wide and begins 100 rows down
    assert (first.x0, first.y0, first.x1, first.y1) == pytest.approx((202, 342, 318, 458))
    assert (second.x0, second.y0, second.x1, second.y1) == pytest.approx((2, 102, 38, 138))
    assert {place.text for place in answer.places} == {"There is a left effusion."}


def test_chexagent_2_places_are_hundredths_of_the_whole_image(server: FaultyEndpoint) -> None:
    server.reply = lambda body: (
        "<|ref|>effusion<|/ref|><|box|>(10,20),(30,40)<|/box|><|box|>(50,60),(70,100)<|/box|>"
        "<|ref|>nodule<|/ref|><|box|>(30,20),(10,40)<|/box|><|box|>(1,1),(101,2)<|/box|>"
    )
    with open_served("chexagent-2", server) as family:
        features = family.encode([film_study(1, rows=300, columns=200)])
        answer = family.answer(features, [Request(Task.DETECT, target="effusion")])[0]
    assert sent_text(server) == "<image>Please locate the following phrase: effusion"
    regions = [place.region for place in answer.places]
    assert [(one.x0, one.y0, one.x1, one.y1) for one in regions if one] == [
        pytest.approx((40, 120, 120, 240)),
        pytest.approx((200, 360, 280, 600)),
    ]
    assert {place.name for place in answer.places} == {"effusion"}
    assert "box" not in answer.text


@pytest.mark.parametrize(
    ("model", "indication", "text"),
    [
        (
            "chexagent-2",
            "Cough.",
            '<image>Given the indication: "Cough.", write a structured findings section for the CXR.',
        ),
        ("chexagent-2", "", "<image>Write a structured findings section for the CXR."),
        (
            "llava-rad",
            "Cough",
            "<image>\nProvide a description of the findings in the radiology image given the following indication: "
            "Cough.",
        ),
        ("llava-rad", "", "<image>\nProvide a description of the findings in the radiology image."),
    ],
)
def test_words_with_an_indication_and_without(
    server: FaultyEndpoint, model: str, indication: str, text: str
) -> None:
    with open_served(model, server) as family:
        request = Request(Task.FINDINGS, context=Context(indication=indication))
        family.answer(family.encode([film_study(1)]), [request])
    assert sent_text(server).strip() == text


def test_medgemma_is_served_in_its_own_words_on_a_padded_square(server: FaultyEndpoint) -> None:
    server.reply = lambda body: 'Final Answer: [{"box_2d": [500, 250, 750, 500], "label": "nodule"}]'
    with open_served("medgemma-1.5-4b-it", server) as family:
        features = family.encode([film_study(1, rows=200, columns=100)])  # stored at 400 x 200
        answer = family.answer(features, [Request(Task.DETECT, target="nodule")])[0]
        family.answer(features, [Request(Task.REPORT)])
    region = answer.places[0].region
    assert region is not None
    # the square is 400 wide and begins 100 columns to the left of the film
    assert (region.x0, region.y0, region.x1, region.y1) == pytest.approx((0, 200, 100, 300))
    detect, report = (list(body["messages"][0]["content"]) for body in server.bodies)
    sizes = []
    for content in (detect, report):
        url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
        with Image.open(BytesIO(b64decode(url.partition(",")[2]))) as sent:
            sizes.append(sent.size)
    assert sizes == [(200, 200), (100, 200)]
    assert sent_text(server) == "You are an expert radiologist.\n\nDescribe this X-ray<image>"
    assert "Where is the nodule?" in detect[-1]["text"]


def test_medrega_is_served_with_the_image_in_its_place(server: FaultyEndpoint) -> None:
    server.reply = lambda body: (
        "<ref>heart</ref><box>[[0, 0, 666, 999]]</box><ref>lung</ref><box>[[9, 9, 1, 1]]</box>"
    )
    with open_served("medrega", server) as family:
        features = family.encode([film_study(1, rows=300, columns=150)])
        answer = family.answer(features, [Request(Task.DETECT, target="heart")])[0]
        with pytest.raises(ConfigurationError, match="asks twice"):
            family.answer(features, [Request(Task.VQA, question="Why?", target="heart")])
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "Answer the questions."}
    assert sent_text(server).endswith("<image>\nPlease locate <ref>heart</ref> in this chest x-ray image.")
    assert [place.name for place in answer.places] == ["heart"]
    assert answer.places[0].region is not None
    assert answer.places[0].region.x1 == pytest.approx(200)  # stored at 600 x 300


def test_llava_med_is_served_without_its_marks(server: FaultyEndpoint) -> None:
    with open_served("llava-med", server) as family:
        family.answer(family.encode([film_study(1)]), [Request(Task.VQA, question="Is there an effusion?")])
    assert sent_text(server) == "<image>\nIs there an effusion?"


def test_a_frame_that_is_not_known_stops_the_run() -> None:
    with pytest.raises(StopRun, match="frame"):
        turns_of("### Human: <image> Why? ### Assistant:")


@pytest.mark.parametrize("model_id", DIALECTS)
def test_a_dialect_that_is_named_is_there(model_id: str) -> None:
    assert wording_of(show(model_id)).digest


def test_values_are_put_in_whole() -> None:
    assert fill("a {x}[[ b {y}||c]]<image>{x}", {"x": "{y} [[<image>]]", "y": ""}) == [
        "a {y} [[<image>]]c",
        "{y} [[<image>]]",
    ]
    assert weave(["a", "b"], [b"1", b"2"]) == (b"1", "a", b"2", "b")
    with pytest.raises(ValueError, match="places"):
        weave(["a", "b"], [])


SERVED = [(show(name), wording_of(show(name))) for name in ("maira-2", "chexagent-2", "openai-endpoint")]


@given(st.text(max_size=120) | st.from_regex(r"<obj>a(<box><x\d\d><y\d\d><x\d\d><y\d\d></box>)?</obj>"))
def test_any_answer_is_read(text: str) -> None:
    seen = SeenImage(InstanceRef("1", "2", "3"), 0, 100, 80)
    for entry, wording in SERVED:
        for task in entry.tasks:
            answer = wording.read(text, Request(task, labels=("a", "b"), target="t", schema=SCHEMA), (seen,))
            for place in answer.places:
                assert place.region is not None
                assert 0 <= place.region.x0 < place.region.x1 <= 80
                assert 0 <= place.region.y0 < place.region.y1 <= 100
