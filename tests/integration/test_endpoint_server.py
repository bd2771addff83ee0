"""The endpoint adapter against a real server: `transformers serve` on tiny random models of this test."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from models.catalog import show
from models.endpoints.options import EndpointOptions
from models.endpoints.pictures import picture
from models.families import Request, Task
from models.families.endpoint import EndpointFamily
from models.families.opening import open_family
from pipeline.errors import ConfigurationError, FirstreadError, StopRun
from tests.servers import LOOPBACK, free_port
from tests.tiny_model import film_study
from tests.tiny_text import build_tokenizer, write_text_model

TOKENS = 12
VISION_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llava of a few thousand weights with the processor that its authors would publish."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = VISION_TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    words = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=4,
        eos_token_id=2,
        pad_token_id=5,
    )
    torch.manual_seed(0)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    network = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=words, image_token_index=image_token)
    ).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(10 if parameter.dim() > 1 else 1)
    network.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=VISION_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """`transformers serve` on a free port, offline, ended by its own process id."""
    port, log = free_port(), folder / "serve.log"
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=output, stderr=output, env=surroundings
        )
        try:
            _wait(f"http://{LOOPBACK}:{port}/health", server, log)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with transformers_serve(tmp_path_factory.mktemp("serve")) as url:
        yield url


def open_served(url: str, model: Path | str) -> EndpointFamily:
    options = EndpointOptions(url, str(model), max_tokens=TOKENS, read_timeout=60, attempts=2)
    family = open_family(
        show("openai-endpoint"), None, Path("unused"), accept_use_limits=True, endpoint=options
    )
    assert isinstance(family, EndpointFamily)
    return family


def test_texts_are_those_of_generate(server: str, text_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    request = Request(Task.TEXT_QA, question="Is there an effusion?")
    with open_served(server, text_model) as family:
        answers = family.answer(family.encode([film_study(1)] * 3), [request] * 3)
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    network = AutoModelForCausalLM.from_pretrained(text_model)
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


def test_images_arrive_as_they_were_sent(server: str, image_model: Path) -> None:
    from io import BytesIO

    from transformers import AutoProcessor

    studies = [film_study(1), film_study(2, rows=90, columns=170)]
    request = Request(Task.VQA, question="Where?", options=("left", "right"))
    with open_served(server, image_model) as family:
        answers = family.answer(family.encode(studies), [request, request])
    processor = AutoProcessor.from_pretrained(image_model)
    network = LlavaForConditionalGeneration.from_pretrained(image_model)
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


def test_a_model_that_the_server_does_not_have(server: str, tmp_path: Path) -> None:
    with open_served(server, tmp_path / "absent") as family, pytest.raises(FirstreadError) as caught:
        family.answer(family.encode([film_study(1)]), [Request(Task.TEXT_QA, question="Why?")])
    assert "absent" not in str(caught.value)


def test_a_path_that_is_not_there(server: str, text_model: Path) -> None:
    options = EndpointOptions(f"{server}/elsewhere", str(text_model), attempts=1)
    request = Request(Task.TEXT_QA, question="Why?")
    refused = pytest.raises(ConfigurationError, match=r"endpoint\.url")
    with EndpointFamily(show("openai-endpoint"), options) as family, refused:
        family.answer(family.encode([film_study(1)]), [request])


def test_a_server_that_is_not_started(text_model: Path) -> None:
    options = EndpointOptions(f"http://{LOOPBACK}:{free_port()}", str(text_model), attempts=1)
    with pytest.raises(StopRun, match="start the server"):
        EndpointFamily(show("openai-endpoint"), replace(options, connect_timeout=1))
