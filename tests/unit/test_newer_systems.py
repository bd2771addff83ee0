"""Workers that came later: CXRReportGen's columns and sentences, VILA-M3, further wordings by name."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from models.catalog import show
from models.families.endpoint.wording import read_cxrreportgen
from models.family import PromptContext, Request, SeenImage, Task
from pipeline.report import Language
from pipeline.study import InstanceRef
from tests.faulty_endpoint import FaultyEndpoint, faulty_endpoint
from tests.served import open_served, sent_text, two_films
from tests.tiny_model import film_study

SEEN = SeenImage(InstanceRef("1.2", "1.2.1", "1.2.1.1"), 0, 400, 200)
DOCUMENTED = {
    "output": [
        ["The heart size is normal.", None],
        ["Lungs demonstrate blunting of both costophrenic angles.", [[0.005, 0.555, 0.965, 0.865]]],
    ]
}
"""The example of its page, cut."""
CHEXAGENT = {
    "detect-disease": "Locate areas in the chest X-ray where nodule are present, using bounding box coordinates",
    "detect-chest-tubes": "Locate chest tubes and specify their positions with bounding box coordinates",
    "detect-rib-fractures": "Locate rib fractures and specify their positions with bounding box coordinates",
    "detect-foreign-objects": "Examine the chest X-ray for the presence of foreign objects, such as tubes, clips, or "
    "hardware, and provide their locations with bounding box coordinates.",
    "vqa-anatomy": 'Please provide a detailed description of "Airway" in the chest X-ray',
    "vqa-disease": "Does this chest X-ray contain a Airway?",
}
"""What model_chexagent/chexagent.py at e4f31e6 asks."""


@pytest.fixture
def server() -> Iterator[FaultyEndpoint]:
    with faulty_endpoint() as running:
        yield running


def test_cxrreportgen_is_told_its_columns_in_the_order_of_the_images(server: FaultyEndpoint) -> None:
    server.reply = lambda body: json.dumps(DOCUMENTED)
    study = replace(two_films(), priors=(film_study(9).images[0],))
    context = PromptContext("Cough.", "PA", "Prior film.", "Clear lungs.")
    with open_served("cxrreportgen", server) as family:
        (answer,) = family.answer(family.encode([study]), [Request(Task.GROUNDED_REPORT, context=context)])
    assert sent_text(server) == (
        "<image><image><image>images: frontal_image, lateral_image, prior_image\nindication: Cough.\ntechnique: PA\n"
        "comparison: Prior film.\nprior_report: Clear lungs."
    )
    assert answer.text == (
        "The heart size is normal. Lungs demonstrate blunting of both costophrenic angles."
    )
    (place,) = answer.places
    assert place.text == "Lungs demonstrate blunting of both costophrenic angles."
    assert place.region is not None
    assert place.region.ref.study_instance_uid == "1.2.1", "boxes lie on the current frontal film"


def test_its_boxes_are_shares_of_the_film() -> None:
    (place,) = read_cxrreportgen(json.dumps(DOCUMENTED), Request(), SEEN).places
    region = place.region
    assert region is not None
    assert (region.x0, region.y0, region.x1, region.y1) == pytest.approx((1, 222, 193, 346))


@pytest.mark.parametrize(
    "text",
    [
        "no JSON", "{}", '{"output": 3}', '{"output": [3]}', '{"output": [[3, null]]}', '{"output": [["a", 3]]}',
        '{"output": [["a", [["x", 0, 1, 1]]]]}', '{"output": [["a", [[0, 0, 2, 1], [true, 0, 1, 1], [0, 0, 1]]]]}',
        "[" * 100_000, '{"output": [["a", [[NaN, 0, 1, 1]]]]}',
    ],
)  # fmt: skip
def test_what_is_no_list_of_sentences_has_no_places(text: str) -> None:
    answer = read_cxrreportgen(text, Request(), SEEN)
    assert answer.places == ()


def test_vila_m3_is_asked_as_its_evaluation_asks(server: FaultyEndpoint) -> None:
    with open_served("vila-m3-8b", server) as family:
        family.answer(family.encode([two_films()]), [Request()])
    assert sent_text(server) == "<image>Describe the image in detail.", "the frontal film alone"


@pytest.mark.parametrize("name", list(CHEXAGENT))
def test_chexagents_further_wordings_are_its_codes(server: FaultyEndpoint, name: str) -> None:
    task = Task(name.partition("-")[0])
    with open_served("chexagent-2", server) as family:
        assert name in family.traits.variants[Language.ENGLISH]
        request = Request(task, target="nodule", question="Airway", variant=name)
        family.answer(family.encode([film_study(1)]), [request])
    assert sent_text(server).removeprefix("<image>") == CHEXAGENT[name]


def test_wordings_of_the_catalogue_can_be_asked_by_name() -> None:
    assert "classify-training" in show("medrega").traits.variants[Language.ENGLISH]
    assert "detect-sentence" in show("radvlm").traits.variants[Language.ENGLISH]
