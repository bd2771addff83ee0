"""firstread-mini with its encoder in 8 bits: another recipe, near the exact one, refused where it cannot be had."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.catalog import show
from models.families.mini.int8 import FINEST, LABELS
from models.families.mini.mini_family import MiniFamily
from models.families.registry import open_family
from models.family import Request
from models.model_choice import ModelChoice
from models.networks.label_net import MEMBERS, WIDTHS
from models.recipe import Recipe
from models.runners.quantize import DIGEST_SUFFIX, INT8_FILE, INT8_TOLERANCE
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_model import film_study, tiny_cache, tiny_weights

ENTRY = show("firstread-mini")


@pytest.fixture(scope="module")
def small() -> MiniFamily:
    return MiniFamily(ENTRY, tiny_weights(), tiny_cache(), threads=1, precision="int8")


def test_the_choice_is_part_of_the_recipe(small: MiniFamily) -> None:
    exact = MiniFamily(ENTRY, tiny_weights(), tiny_cache(), threads=1)
    assert (exact.parts["precision"], small.parts["precision"]) == ("fp32", "int8")
    assert Recipe(exact.parts).digest != Recipe(small.parts).digest
    assert f"graph/{INT8_FILE}" in small.parts.keys() - exact.parts.keys()
    assert small.runner == "onnxruntime-cpu"


def test_its_features_are_near_the_exact_ones_and_texts_are_written(small: MiniFamily) -> None:
    exact = MiniFamily(ENTRY, tiny_weights(), tiny_cache(), threads=1)
    studies = [film_study(number) for number in range(4)]
    given, wanted = small.encode(studies), exact.encode(studies)
    for one, other in zip(given, wanted, strict=True):
        error = np.abs(one.arrays["pooled"] - other.arrays["pooled"]).max()
        assert 0 < error <= INT8_TOLERANCE * np.abs(other.arrays["pooled"]).max()
    assert any(answer.text for answer in small.answer(given, [Request()] * 4))


def test_convolutions_are_in_8_bits_but_for_the_finest_grids_and_single_pixels(small: MiniFamily) -> None:
    (made,) = tiny_cache().glob(f"*/*-{INT8_FILE}")
    graph = onnx.load(made).graph
    given = {output: node.op_type for node in graph.node for output in node.output}
    shapes = {constant.name: list(constant.dims) for constant in graph.initializer}
    exact, eighth = [], 0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        if given.get(node.input[0]) == "DequantizeLinear":
            eighth += 1
        else:
            exact.append(shapes[node.input[1]])
    wide = [shape for shape in exact if shape[2:] != [1, 1]]
    of_labels = [name for name in shapes if name.startswith(LABELS) and shapes[name][2:] not in ([1, 1], [])]
    assert len(of_labels) == MEMBERS * len(WIDTHS)
    assert len(wide) == 2 + FINEST + len(of_labels), (
        "the tower's and the outlines' first, and the label networks'"
    )
    assert eighth > 2 * FINEST


def test_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    for precision in ("bf16", "int4"):
        with pytest.raises(ConfigurationError, match=r"model\.precision"):
            open_family(ENTRY, ModelChoice(ENTRY.id, tiny_weights(), precision=precision), tiny_cache())
    with pytest.raises(ConfigurationError, match="tensorrt"):
        open_family(
            ENTRY,
            ModelChoice(ENTRY.id, tiny_weights(), precision="int8", require_runner="tensorrt"),
            tiny_cache(),
        )


def test_a_changed_graph_stops_the_run(small: MiniFamily) -> None:
    (digest,) = tiny_cache().glob(f"*/*{INT8_FILE}{DIGEST_SUFFIX}")
    kept = digest.read_text(encoding="ascii")
    digest.write_text("0" * 64, encoding="ascii")
    try:
        with pytest.raises(StopRun, match="delete it"):
            MiniFamily(ENTRY, tiny_weights(), tiny_cache(), threads=1, precision="int8")
    finally:
        digest.write_text(kept, encoding="ascii")
