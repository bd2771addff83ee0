"""Folders of weights that are damaged, that lie, or that mean harm; none of them is ever loaded."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models.catalog import show
from models.families.checked_weights import check_brought
from models.families.registry import open_family
from models.model_choice import ModelChoice
from models.pin import write_sums
from models.weight_loading.tokenizer_check import check_tokenizer
from models.weight_loading.weight_files import (
    SUMS_FILE,
    inspect_folder,
    parse_header,
    parse_index,
    read_header,
    verify_folder,
)
from pipeline.errors import ConfigurationError, StopRun

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def tensors(*names: str) -> dict[str, np.ndarray]:
    return {name: np.zeros((4, 2), np.float32) for name in names}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A sound folder of one file, with configuration, tokenizer and template."""
    folder = tmp_path / "whole"
    folder.mkdir()
    save_file(
        {"embed_tokens.weight": np.zeros((6, 2), np.float32), "a": np.ones((3,), np.float32)},
        folder / "model.safetensors",
    )
    write(
        folder,
        "config.json",
        {"eos_token_id": 1, "text_config": {"image_token_id": [5]}, "num_hidden_layers": 2},
    )
    vocabulary = {"a": 0, "</s>": 1, "b": 2, "c": 3}
    added = [{"id": 5, "content": "<image>"}]
    write(folder, "tokenizer.json", {"model": {"vocab": vocabulary}, "added_tokens": added})
    write(folder, "tokenizer_config.json", {"eos_token": "</s>", "pad_token": {"content": "b"}})
    (folder / "chat_template.jinja").write_text("{% if image %}<image>{% endif %}")
    return folder


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A sound folder of two shards and their index."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    save_file(tensors("a", "b"), folder / SHARDS[0])
    save_file(tensors("c"), folder / SHARDS[1])
    write(folder, INDEX, {"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}})
    return folder


def write(folder: Path, name: str, value: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def header_file(path: Path, header: Any, data: bytes = b"") -> None:
    content = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)


def test_sound_folders(whole: Path, sharded: Path) -> None:
    one, two = inspect_folder(whole), inspect_folder(sharded)
    assert (one.parameters, len(one.files), one.is_gguf) == (15, 1, False)
    assert (two.parameters, len(two.files)) == (24, 2)
    assert two.size == sum((sharded / name).stat().st_size for name in SHARDS)
    check_tokenizer(one, images=True)
    check_tokenizer(two, images=True)
    assert check_brought(show("lingshu-7b"), whole, precision="auto", sha256="").folders[0].parameters == 15


def point_outside(folder: Path, name: str) -> None:
    outside = folder.parent / "outside.safetensors"
    save_file(tensors("c"), outside)
    (folder / name).unlink()
    (folder / name).symlink_to(outside)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / SHARDS[1]).unlink(), "not in the folder"),
        (
            lambda f: (f / INDEX).unlink(),
            "have no model.safetensors.index.json|have no safetensors.index.json",
        ),
        (
            lambda f: write(f, INDEX, {"weight_map": {"a": "../outside.safetensors"}}),
            "leads out of the folder",
        ),
        (lambda f: write(f, INDEX, {"weight_map": {"a": "/etc/passwd"}}), "leads out of the folder"),
        (lambda f: write(f, INDEX, {"weight_map": {"a": "x\\y.safetensors"}}), "leads out of the folder"),
        (lambda f: write(f, INDEX, {"weight_map": {"a": "model.bin"}}), "not safetensors"),
        (lambda f: write(f, INDEX, {"weight_map": {"a": SHARDS[0], "c": SHARDS[1]}}), "does not name b"),
        (
            lambda f: write(f, INDEX, {"weight_map": {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[0]}}),
            "does not hold c",
        ),
        (lambda f: write(f, INDEX, {"weight_map": {}}), "no weight_map"),
        (lambda f: write(f, INDEX, []), "no weight_map"),
        (lambda f: write(f, INDEX, {"weight_map": {"a": 3}}), "not a file name"),
        (lambda f: (f / INDEX).write_bytes(b"\xff{"), "cannot be read"),
        (lambda f: (f / INDEX).write_bytes(b"[" * 100_000), "cannot be read"),
        (lambda f: save_file(tensors("a", "c"), f / SHARDS[1]), "holds a again"),
        (lambda f: (f / SHARDS[0]).write_bytes((f / SHARDS[0]).read_bytes()[:-5]), "cut short"),
        (lambda f: (f / SHARDS[0]).write_bytes((f / SHARDS[0]).read_bytes() + b"x"), "cut short"),
        (lambda f: (f / SHARDS[0]).write_bytes(b""), "cut short"),
        (lambda f: (f / SHARDS[0]).write_bytes(pickle.dumps({"a": 1})), "safetensors file"),
        (lambda f: (f / SHARDS[0]).write_bytes(struct.pack("<Q", 1 << 62) + b"{}"), "cut short"),
        (lambda f: header_file(f / SHARDS[0], b"[" * 100_000), "not a readable"),
        (lambda f: header_file(f / SHARDS[0], []), "no safetensors header"),
        (lambda f: point_outside(f, SHARDS[1]), "link that leads out"),
    ],
)
def test_a_hostile_folder_stops_the_run(sharded: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(sharded)
    with pytest.raises(StopRun, match=message):
        inspect_folder(sharded)


def test_an_adapter_beside_whole_weights_is_refused(whole: Path, tmp_path: Path) -> None:
    write(whole, "config.json", {})
    (whole / "model.safetensors").rename(whole / "adapter_model.safetensors")
    write(whole, "adapter_config.json", {"peft_type": "LORA"})
    assert inspect_folder(whole).parameters, "an adapter alone, whose base is in a folder of its own"
    save_file(tensors("a"), whole / "model.safetensors")
    with pytest.raises(ConfigurationError, match="move the adapter out"):
        inspect_folder(whole)


def test_the_links_of_a_hub_cache_are_its_own(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(tensors("a"), blobs / "0123")
    (snapshot / "model.safetensors").symlink_to(blobs / "0123")
    assert inspect_folder(snapshot).parameters == 8


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    (tmp_path / name).write_bytes(pickle.dumps(Harm()))
    for attempt in (
        lambda: inspect_folder(tmp_path),
        lambda: open_family(
            show("text-llm"), ModelChoice("text-llm", tmp_path, accept_use_limits=True), tmp_path
        ),
    ):
        with pytest.raises(ConfigurationError, match=rf"{name}.*save_pretrained"):
            attempt()
    assert not (tmp_path / "harmed").exists()


def test_folders_that_are_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigurationError) as caught:
            inspect_folder(folder)
        assert caught.value.code == "weights-folder"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x09\0\0\0", b"PK\x03\x04\0\0\0\0"])
def test_a_gguf_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(StopRun, match="GGUF"):
        inspect_folder(tmp_path)
    (tmp_path / "n.gguf").write_bytes(content)
    with pytest.raises(ConfigurationError, match="leave one"):
        inspect_folder(tmp_path)


def test_parts_and_folders_of_one_task_are_looked_at_too(whole: Path, sharded: Path) -> None:
    (whole / "language").mkdir()
    sharded.rename(whole / "language" / "x")
    (whole / "language" / "x" / SHARDS[1]).unlink()
    (whole / "language" / "x").rename(whole / "report")
    with pytest.raises(StopRun, match="not in the folder"):
        check_brought(show("umit"), whole, precision="auto", sha256="")
    (whole / "report" / INDEX).unlink()
    (whole / "report" / SHARDS[0]).rename(whole / "report" / "model.safetensors")
    brought = check_brought(show("umit"), whole, precision="auto", sha256="")
    assert [one.parameters for one in brought.folders] == [
        15,
        16,
    ]
    with pytest.raises(ConfigurationError, match="holds several"):
        check_brought(show("umit"), whole, precision="auto", sha256="0" * 64)


# --- pins ----------------------------------------------------------------------------------------------------


def test_a_pinned_folder(whole: Path) -> None:
    pin = write_sums(whole)
    assert verify_folder(inspect_folder(whole), pin) == verify_folder(inspect_folder(whole))
    assert "chat_template.jinja" in (whole / SUMS_FILE).read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "model.safetensors").write_bytes(flip((f / "model.safetensors").read_bytes())),
            "not the file",
        ),
        (lambda f: (f / "chat_template.jinja").write_text("image"), "chat_template.jinja is not the file"),
        (lambda f: (f / "tokenizer.json").unlink(), "not in the folder"),
        (lambda f: write(f, "added.json", {}), "came later"),
        (lambda f: write(f / "base", "added.json", {}), "base/added.json is not in"),
        (
            lambda f: write(f / "inner" / "deep", "config.json", {"a": 1}),
            "inner/deep/config.json is not the file",
        ),
        (
            lambda f: (f / SUMS_FILE).write_text((f / SUMS_FILE).read_text() + "\n"),
            "is not the one that model.sha256",
        ),
    ],
)
def test_a_changed_folder_stops_the_run(whole: Path, change: Callable[[Path], None], message: str) -> None:
    write(whole / "inner" / "deep", "config.json", {})
    pin = write_sums(whole)
    change(whole)
    with pytest.raises(StopRun, match=message):
        verify_folder(inspect_folder(whole), pin)


@pytest.mark.parametrize("line", ["abc  model.safetensors", f"{'0' * 64}  ../x.json", "rubbish", "\xff"])
def test_a_list_that_is_none(whole: Path, line: str) -> None:
    (whole / SUMS_FILE).write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(StopRun, match=SUMS_FILE):
        verify_folder(inspect_folder(whole))


def test_a_pin_without_a_list_says_how_to_make_one(whole: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"python -m models\.pin"):
        verify_folder(inspect_folder(whole), "0" * 64)


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


# --- tokenizer and template ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: write(f, "tokenizer.json", {"model": {"vocab": {"a": 0, "b": 9}}}),
            "token 9 and the network 6 rows",
        ),
        (lambda f: write(f, "config.json", {"eos_token_id": [1, 4]}), r"token 4 \(eos_token_id\)"),
        (
            lambda f: write(f, "config.json", {"text_config": {"eos_token_id": 4}}),
            "which the tokenizer does not have",
        ),
        (lambda f: write(f, "config.json", {"image_token_index": 99}), "image_token_index"),
        (
            lambda f: write(f, "tokenizer_config.json", {"eos_token": "<end>"}),
            "names a eos_token|names an eos_token",
        ),
        (lambda f: (f / "chat_template.jinja").write_text("{{ messages }}"), "no place for an image"),
        (lambda f: (f / "chat_template.jinja").write_bytes(b"\xff"), "cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), "not a JSON object"),
    ],
)
def test_a_tokenizer_of_another_model_stops_the_run(
    whole: Path, change: Callable[[Path], None], message: str
) -> None:
    change(whole)
    with pytest.raises(StopRun, match=message):
        check_brought(show("lingshu-7b"), whole, precision="auto", sha256="")


def test_a_text_family_needs_no_place_for_an_image(whole: Path) -> None:
    (whole / "chat_template.jinja").write_text("{{ messages }}")
    check_tokenizer(inspect_folder(whole), images=False)


def test_a_unigram_vocabulary_is_counted(whole: Path) -> None:
    pairs = [[f"t{number}", 0.0] for number in range(7)]
    write(whole, "tokenizer.json", {"model": {"vocab": pairs}})
    with pytest.raises(StopRun, match="token 6"):
        check_tokenizer(inspect_folder(whole), images=False)


# --- anything at all -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON | st.builds(lambda placed: {"weight_map": placed}, JSON))
def test_any_index_is_refused_or_stays_in_the_folder(stored: Any) -> None:
    present = frozenset({"a.safetensors", "b.safetensors"})
    try:
        placed = parse_index(stored, INDEX, present)
    except StopRun:
        return
    assert set(placed.values()) <= present


@given(
    st.dictionaries(
        st.text(max_size=3),
        JSON
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "F128"]),
                "shape": st.lists(st.integers(-1, 9), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 200), max_size=3),
            }
        ),
        max_size=3,
    ),
    st.integers(0, 200),
)
def test_any_header_is_refused_or_fills_its_file(header: dict[str, Any], data: int) -> None:
    try:
        found = parse_header(header, "x", data)
    except StopRun:
        return
    assert (
        sum(
            info.count * (4 if info.dtype == "F32" else 2)
            for info in found.values()
            if info.dtype in ("F32", "BF16")
        )
        <= data
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    try:
        assert read_header(path) == {}
    except StopRun:
        return
