"""A family gets a film as stored: what goes into its tower is what its processor makes of that film."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.environment.site_models import model_choice, reader_of
from flows.environment.workplace import Workplace
from models.catalog import list_models, show
from models.families.native.chat import picture_of
from models.families.native.networks import ChatNetwork, load_llava_med, load_medgemma, load_medrega
from models.families.native.qwen import BOUND_PIXELS, QwenFamily
from models.families.native.qwen_dialects import find_dialect
from models.families.native.qwen_loading import load_qwen
from models.film_sizes import in_size
from models.model_choice import EndpointOptions, ModelChoice
from pipeline.accepts import USUAL_SIDE, WHOLE_FILM
from pipeline.images import prepare_for
from pipeline.settings import Settings
from pipeline.study import ImageSet
from tests.engines import ENGINES
from tests.synthetic import chest_pixels, fetched, write_chest
from tests.tiny_chat import write_chat_model
from tests.tiny_qwen import write_qwen

ROWS, COLUMNS = 1700, 1400


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("film")
    return fetched(folder, [write_chest(folder / "a", pixels=chest_pixels(ROWS, COLUMNS))])


def shown(film: Any, model: str) -> ImageSet:
    return prepare_for(film, reader=reader_of(ModelChoice(model)))[1]


def test_a_film_is_as_large_as_its_reader_wants_it(film: Any) -> None:
    (whole,), (step,) = shown(film, "lingshu-7b").images, shown(film, "firstread-mini").images
    assert whole.pixels.shape == (ROWS, COLUMNS)
    assert max(step.pixels.shape) == USUAL_SIDE
    assert (whole.original_rows, whole.original_columns) == (step.original_rows, step.original_columns)


@pytest.mark.parametrize(("model", "kind"), [("lingshu-7b", "qwen2.5-vl"), ("unirg-cxr", "qwen3-vl")])
def test_patches_are_the_processors_own_of_the_whole_film(
    film: Any, model: str, kind: str, tmp_path: Path
) -> None:
    entry = show(model)
    folder = write_qwen(tmp_path / "weights", kind, 12_845_056)
    loaded = load_qwen(folder, entry.network_class)
    dialect = find_dialect(entry, folder)
    with QwenFamily(entry, loaded, dialect, ENGINES, require_runner="torch", threads=1) as family:
        assert loaded.processor.size["longest_edge"] == BOUND_PIXELS, "in torch, on a CPU"
        assert family.parts["film"] == "as stored"
        assert family.parts["pixels"].startswith("at most 1048576")
        study = shown(film, model)
        grey = np.clip(np.rint(study.images[0].pixels * 255), 0, 255).astype(np.uint8)
        picture = Image.fromarray(grey).convert("RGB")
        wanted = loaded.processor(images=[picture], return_tensors="np")
        np.testing.assert_array_equal(family.prepare(study), wanted["pixel_values"])
        stepped = family.prepare(shown(film, "firstread-mini"))
        assert stepped.shape != wanted["pixel_values"].shape or not np.array_equal(
            stepped, wanted["pixel_values"]
        )


@pytest.mark.parametrize(
    ("model", "kind", "load", "pad"),
    [
        ("medrega", "medrega", load_medrega, None),
        ("medgemma-4b-it", "medgemma", load_medgemma, None),
        ("llava-med", "llava-med", load_llava_med, (122, 116, 104)),
    ],
)
def test_pixels_of_a_square_tower_are_made_of_the_whole_film(
    film: Any, model: str, kind: str, load: Callable[[Path], ChatNetwork], pad: Any, tmp_path: Path
) -> None:
    """From the stored film by the published processor, LLaVA-Med's in the middle of its square."""
    loaded = load(write_chat_model(tmp_path / kind, kind))
    (image,) = shown(film, model).images
    assert image.pixels.shape == (ROWS, COLUMNS)
    whole = picture_of(image)
    made = loaded.processor(images=[whole], return_tensors="np")["pixel_values"]
    stepped = loaded.processor(
        images=[picture_of(shown(film, "firstread-mini").images[0])], return_tensors="np"
    )["pixel_values"]
    assert not np.array_equal(made, stepped)
    processor = getattr(loaded.processor, "_processor", loaded.processor)
    if pad:
        square = Image.new("RGB", (ROWS, ROWS), pad)
        square.paste(whole, ((ROWS - COLUMNS) // 2, 0))
        whole = square
    np.testing.assert_array_equal(made, processor(images=[whole], return_tensors="np")["pixel_values"])


def test_a_smaller_limit_of_a_folder_is_left_alone(tmp_path: Path) -> None:
    entry = show("chexone")
    folder = write_qwen(tmp_path / "weights", "qwen2.5-vl", 262_144)
    loaded = load_qwen(folder, entry.network_class, 262_144)
    with QwenFamily(
        entry, loaded, find_dialect(entry, folder), ENGINES, require_runner="torch", threads=1
    ) as family:
        assert loaded.processor.size["longest_edge"] == 262_144
        assert "pixels" not in family.parts


def test_a_server_is_sent_what_the_site_allows_it(film: Any) -> None:
    served = ModelChoice(
        "openai-endpoint", endpoint=EndpointOptions("http://127.0.0.1:1", "m", max_side=1600)
    )
    assert reader_of(served).longest_side == 1600
    (image,) = prepare_for(film, reader=reader_of(served))[1].images
    assert max(image.pixels.shape) == 1600
    assert reader_of(ModelChoice("firstread-mini")).longest_side == USUAL_SIDE


def test_each_model_of_a_site_is_shown_a_film_in_its_own_size(film: Any, tmp_path: Path) -> None:
    """A further model changes nothing of what the others see, to the last bit."""
    site = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "model": {"id": "firstread-mini"},
            "models": {"pointing": {"id": "lingshu-7b", "weights": "/nowhere"}},
        }
    )
    sides = [reader_of(model_choice(one)).longest_side for one in (site.model, *site.models.values())]
    assert sides == [USUAL_SIDE, WHOLE_FILM]
    with Workplace.without_store(site) as workplace:
        reader = workplace.reader
    assert (reader.longest_side, reader.smaller_sides) == (WHOLE_FILM, (USUAL_SIDE,))
    _, shared = prepare_for(film, reader=reader)
    for model, side in (("firstread-mini", USUAL_SIDE), ("lingshu-7b", WHOLE_FILM)):
        (study,) = in_size([shared], side)
        np.testing.assert_array_equal(study.images[0].pixels, shown(film, model).images[0].pixels)
        assert study.images[0].smaller == ()


def test_every_brought_family_of_films_reads_them_as_stored() -> None:
    stepped = {entry.adapter for entry in list_models() if not entry.whole_film}
    assert stepped == {"", "causal-lm", "firstread-mini", "nnunet", "openai-endpoint"}
