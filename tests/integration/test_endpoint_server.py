"""The endpoint adapter against a real server: `transformers serve` on tiny random models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import LlavaForConditionalGeneration

from models.catalog import show
from models.families.endpoint.endpoint_family import EndpointFamily
from models.families.endpoint.pictures import picture
from models.families.registry import open_family
from models.family import Request, Task
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.errors import ConfigurationError, FirstreadError, StopRun
from tests.servers import LOOPBACK, free_port
from tests.tiny_model import film_study

TOKENS = 12


def open_served(url: str, model: Path | str) -> EndpointFamily:
    options = EndpointOptions(url, str(model), max_tokens=TOKENS, read_timeout=60, attempts=2)
    family = open_family(
        show("openai-endpoint"),
        ModelChoice("openai-endpoint", accept_use_limits=True, endpoint=options),
        Path("unused"),
    )
    assert isinstance(family, EndpointFamily)
    return family


def test_texts_are_those_of_generate(model_server: str, served_text_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    request = Request(Task.TEXT_QA, question="Is there an effusion?")
    with open_served(model_server, served_text_model) as family:
        answers = family.answer(family.encode([film_study(1)] * 3), [request] * 3)
    tokenizer: Any = AutoTokenizer.from_pretrained(served_text_model)
    network: Any = AutoModelForCausalLM.from_pretrained(served_text_model)
    turns = [{"role": "user", "content": "Is there an effusion?\nAnswer briefly."}]
    inputs = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[
        0, inputs["input_ids"].shape[1] :
    ]
    expected = tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert expected
    assert [answer.text for answer in answers] == [expected] * 3
    assert all(answer.truncated == (len(ids) >= TOKENS) for answer in answers)


def test_images_arrive_as_they_were_sent(model_server: str, served_image_model: Path) -> None:
    from io import BytesIO

    from transformers import AutoProcessor

    studies = [film_study(1), film_study(2, rows=90, columns=170)]
    request = Request(Task.VQA, question="Where?", options=("left", "right"))
    with open_served(model_server, served_image_model) as family:
        answers = family.answer(family.encode(studies), [request, request])
    processor = AutoProcessor.from_pretrained(served_image_model)
    network: Any = LlavaForConditionalGeneration.from_pretrained(served_image_model)
    expected = []
    for study in studies:
        image = Image.open(BytesIO(picture(study.images[0], 1024)))
        text = "Where?\nAnswer with one of these and nothing else:\nleft\nright"
        turns = [
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}
        ]
        inputs = processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True
        )
        ids = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[
            0, inputs["input_ids"].shape[1] :
        ]
        expected.append(processor.decode(ids, skip_special_tokens=True).strip())
    assert [answer.text for answer in answers] == expected
    assert expected[0] != expected[1]


def test_a_model_that_the_server_does_not_have(model_server: str, tmp_path: Path) -> None:
    with open_served(model_server, tmp_path / "absent") as family, pytest.raises(FirstreadError) as caught:
        family.answer(family.encode([film_study(1)]), [Request(Task.TEXT_QA, question="Why?")])
    assert "absent" not in str(caught.value)


def test_a_path_that_is_not_there(model_server: str, served_text_model: Path) -> None:
    options = EndpointOptions(f"{model_server}/elsewhere", str(served_text_model), attempts=1)
    request = Request(Task.TEXT_QA, question="Why?")
    refused = pytest.raises(ConfigurationError, match=r"endpoint\.url")
    with EndpointFamily(show("openai-endpoint"), options) as family, refused:
        family.answer(family.encode([film_study(1)]), [request])


def test_a_server_that_is_not_started(served_text_model: Path) -> None:
    options = EndpointOptions(f"http://{LOOPBACK}:{free_port()}", str(served_text_model), attempts=1)
    with pytest.raises(StopRun, match="start the server"):
        EndpointFamily(show("openai-endpoint"), replace(options, connect_timeout=1))
