"""MedGemma 1.5 as its notebooks show it: an earlier film, planes of a CT in three windows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.catalog import show
from models.families.native.medgemma import MedGemmaDialect
from models.families.native.medgemma_family import MedGemmaFamily
from models.families.native.networks import load_medgemma
from models.families.prompt_proof import render_template
from models.family import Features, Request, Task
from pipeline.errors import FailStudy
from pipeline.images.sampling import by_steps
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES
from tests.tiny_chat import chat_study, write_chat_model
from tests.unit.test_proving import GEMMA

COMPARE = (
    "Provide a comparison of these two images and include details from the image which students should take note of "
    "when reading longitudinal CXR"
)
TEACH = (
    "You are an instructor teaching medical students. You are analyzing a contiguous block of CT slices. Please review "
    "the slices provided below carefully."
)
WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MedGemmaFamily]:
    folder = write_chat_model(tmp_path_factory.mktemp("medgemma") / "weights", "medgemma")
    entry = show("medgemma-1.5-4b-it")
    dialect = MedGemmaDialect(entry.prompts, entry.images)
    with MedGemmaFamily(entry, load_medgemma(folder), dialect, ENGINES, limit=12, threads=1) as made:
        yield made


def series(count: int) -> tuple[ImageSet, np.ndarray[Any, Any]]:
    """Planes as the path hands them over, a window in each channel, and their values in Hounsfield units."""
    units = np.random.default_rng(0).integers(-1100, 1200, (count, 48, 40)).astype(np.float32)
    images = []
    for number, plane in enumerate(units):
        channels = [np.clip((plane - low) / (high - low), 0, 1) for low, high in WINDOWS]
        ref = InstanceRef("1.2", "1.2.1", f"1.2.1.{number}")
        pixels = np.stack(channels, -1).astype(np.float32)
        images.append(StudyImage(ref, 0, pixels, 48, 40, None, "CT", "CHEST", "", "MONOCHROME2"))
    return ImageSet("1.2", tuple(images)), units


def asked(family: MedGemmaFamily, features: Features, request: Request) -> tuple[str, Any]:
    """The prompt as the network reads it, an image as one mark, and what stands for the images."""
    ids, values = family._prompt(features, request, None)
    text = family._loaded.tokenizer.decode(ids)
    return text.replace(family._loaded.image_text, "<start_of_image>"), values


def test_the_catalogue_says_what_its_notebook_does() -> None:
    (accepts,) = show("medgemma-1.5-4b-it").accepts
    assert (accepts.modalities, accepts.most, accepts.windows) == (("CT",), 85, WINDOWS)


def test_a_draft_beside_an_earlier_film_is_asked_as_its_notebook_asks(family: MedGemmaFamily) -> None:
    study = replace(chat_study(1), priors=chat_study(2).images)
    (features,) = family.encode([study])
    text, values = asked(family, features, Request())
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": COMPARE}]}
    ]
    assert text == render_template(GEMMA, turns, {"bos_token": "<bos>"})
    squares = []
    for image in (study.priors[0], study.images[0]):  # the earlier one first
        picture = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
        square = Image.new("L", (max(picture.size),) * 2)
        square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
        squares.append(square.convert("RGB"))
    wanted = family._encoder.encode({"pixels": family._pixels(squares)})["features"]
    assert np.abs(values - wanted).max() / np.abs(wanted).max() <= 1e-5
    assert len(features.images) == 1, "no region lies on the earlier film"
    question, seen = asked(family, features, Request(Task.VQA, question="Why?"))
    assert question.count("<start_of_image>") == len(seen) == 1, "a question is asked of the current film"


def test_without_an_earlier_film_the_usual_words_are_asked(family: MedGemmaFamily) -> None:
    assert family.traits.reads_priors
    (features,) = family.encode([chat_study(1)])
    assert "Describe this X-ray<start_of_image>" in asked(family, features, Request())[0]


def test_planes_are_asked_as_its_notebook_asks(family: MedGemmaFamily) -> None:
    study, units = series(3)
    pixels = family.prepare(study)
    shown = [
        np.round(np.clip((units - low) / (high - low), 0, 1) * 255).astype(np.uint8) for low, high in WINDOWS
    ]
    pictures = [Image.fromarray(plane, "RGB") for plane in np.stack(shown, -1)]
    assert np.array_equal(pixels, family._pixels(pictures)), "red, green and blue are its three windows"
    (features,) = family.encode([study])
    request = Request(Task.VQA, question="is there a nodule?")
    text, values = asked(family, features, request)
    content: list[dict[str, str]] = [{"type": "text", "text": TEACH}]
    for number in range(1, 4):
        content += [{"type": "image"}, {"type": "text", "text": f"SLICE {number}"}]
    query = "\n\nBased on the visual evidence in the slices provided above, is there a nodule?"
    content.append({"type": "text", "text": query})
    turns = [{"role": "user", "content": content}]
    assert text == render_template(GEMMA, turns, {"bos_token": "<bos>"})
    assert len(values) == 3
    report, _ = asked(family, features, Request())
    assert TEACH in report
    assert "SLICE 3Based on the visual evidence" in report
    (answer,) = family.answer([features], [request])
    assert answer.text is not None
    with pytest.raises(FailStudy, match="boxes are asked of films"):
        family.answer([features], [Request(Task.DETECT, target="nodule")])


def test_of_more_planes_those_are_seen_that_its_notebook_chooses() -> None:
    """The notebook of commit d89262c: i / 85 of the last place, from 1 to 85, rounded as Python rounds."""
    (accepts,) = show("medgemma-1.5-4b-it").accepts
    assert accepts.steps
    for count in (86, 171, 512):
        theirs = [round(i / 85 * (count - 1)) for i in range(1, 86)]
        assert list(by_steps(count, accepts.most)) == theirs
        assert 0 not in theirs
    assert by_steps(85, 85) == tuple(range(85))


def test_a_whole_series_of_85_planes_is_seen(family: MedGemmaFamily) -> None:
    study, _ = series(85)
    (features,) = family.encode([study])
    assert len(features.images) == len(features.arrays["features"]) == 85
    for row in (0, 40, 84):
        (alone,) = family.encode([replace(study, images=study.images[row : row + 1])])
        assert np.array_equal(alone.arrays["features"][0], features.arrays["features"][row])
    assert asked(family, features, Request())[0].count("<start_of_image>") == 85
