"""Families behind a server in their own words: what each is asked, and where its places lie."""

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.catalog import show
from models.families.endpoint.dialects import DIALECTS, turns_of
from models.families.endpoint.pictures import picture
from models.families.endpoint.template import fill, weave
from models.families.endpoint.wording import wording_of
from models.families.native.square import pad_square
from models.family import PromptContext, Request, SeenImage, Task
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import InstanceRef
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.served import SCHEMA, open_served, sent_text, two_films
from tests.tiny_model import film_study


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyEndpoint]:
    monkeypatch.setattr("models.families.endpoint.client.FIRST_PAUSE", 0.01)
    with faulty_endpoint() as running:
        yield running


MAIRA_IMAGES = {
    (): "Given the current frontal image only<image>",
    ("lateral",): "Given the current frontal image<image> and the current lateral image<image>",
    (
        "prior",
    ): "Given the current frontal image<image> and the prior frontal image<image> PRIOR_REPORT: Clear lungs.",
    ("lateral", "prior"): (
        "Given the current frontal image<image> the current lateral image<image> and the prior frontal image<image>"
        " PRIOR_REPORT: Clear lungs."
    ),
}
"""By the films beside the frontal one, as microsoft/maira-2's processing_maira2.py names them."""


@pytest.mark.parametrize("beside", MAIRA_IMAGES)
def test_maira_2_is_asked_as_its_processor_would(beside: tuple[str, ...], server: FaultyEndpoint) -> None:
    # a film that was chosen to compare with, whatever its header says
    prior = film_study(9, view="").images[0]
    study = two_films() if "lateral" in beside else film_study(1)
    if "prior" in beside:
        study = replace(study, priors=(prior,))
    context = PromptContext(indication="Cough.", technique="PA", prior_report="Clear lungs.")
    with open_served("maira-2", server) as family:
        features = family.encode([study])
        family.answer(features, [Request(Task.FINDINGS, context=context)])
        assert sent_text(server) == (
            f"{MAIRA_IMAGES[beside]} Provide a description of the findings in the radiology study in comparison to "
            "the prior frontal image. INDICATION: Cough. TECHNIQUE: PA COMPARISON: N/A"
        )
        family.answer(features, [Request(Task.GROUNDED_REPORT, context=context)])
        assert sent_text(server) == (
            f"{MAIRA_IMAGES[beside]} Provide a description of the findings in the radiology study in comparison to "
            "the prior frontal image. Each finding should be described as a self-contained plain-text sentence. If "
            "the finding is groundable, locate the finding in the current frontal chest X-ray image, with bounding "
            "boxes indicating all locations where it can be seen in the current frontal image. Otherwise, generate "
            "just the ungrounded finding without bounding boxes. INDICATION: Cough. TECHNIQUE: PA COMPARISON: N/A"
        )
        family.answer(features, [Request(Task.DETECT, target="left effusion")])
        assert sent_text(server) == (
            "Given the current frontal image<image> Repeat the following finding as a grounded phrase with bounding "
            "boxes indicating all locations where it can be seen in the given chest X-ray image. "
            "Finding: left effusion"
        )
        current = ["1.2.1", "1.2.2"] if "lateral" in beside else ["1.2.1"]
        assert [one.ref.study_instance_uid for one in features[0].images] == current
    assert server.bodies[0]["messages"][0] == {
        "role": "system",
        "content": "You are an expert radiology assistant tasked with interpreting a chest X-ray study.",
    }


def test_a_prior_film_without_its_report_is_said_to_maira_2(server: FaultyEndpoint) -> None:
    prior = film_study(9).images[0]
    with open_served("maira-2", server) as family:
        features = family.encode([replace(film_study(1), priors=(prior,))])
        family.answer(features, [Request(Task.FINDINGS)])
        assert "and the prior frontal image<image> PRIOR_REPORT: N/A Provide" in sent_text(server)


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
        (
            "libra-7b",
            "Cough.",
            "<image>Provide a detailed description of the findings in the radiology image. Following clinical context: "
            "Cough.",
        ),
        ("libra-3b", "", "<image>Provide a detailed description of the findings in the radiology image."),
    ],
)
def test_words_with_an_indication_and_without(
    server: FaultyEndpoint, model: str, indication: str, text: str
) -> None:
    with open_served(model, server) as family:
        request = Request(Task.FINDINGS, context=PromptContext(indication=indication))
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


def test_llava_med_is_served_without_its_marks_on_the_square_of_its_training(server: FaultyEndpoint) -> None:
    """As ``expand2square`` of its authors' code makes it, which a server of the port in transformers does not."""
    study = film_study(1, rows=200, columns=100)
    with open_served("llava-med", server) as family:
        family.answer(family.encode([study]), [Request(Task.VQA, question="Is there an effusion?")])
    assert sent_text(server) == "<image>\nIs there an effusion?"
    url = next(
        one["image_url"]["url"] for one in server.bodies[0]["messages"][0]["content"] if "image_url" in one
    )
    film = Image.open(BytesIO(picture(study.images[0], 1024))).convert("RGB")
    with Image.open(BytesIO(b64decode(url.partition(",")[2]))) as sent:
        assert sent.tobytes() == pad_square(film, (122, 116, 104)).tobytes()
        assert sent.size == (200, 200)


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
