"""Folders of the tiled families and of MedGemma 1.5 that are refused by name, with what to do."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_chat import write_chat_model
from tests.unit.test_proving import GEMMA, proven, refusal

KINDS = {"lingshu-i-8b": "internvl", "radvlm": "radvlm", "medgemma-1.5-4b-it": "medgemma"}
PLACES = ("<image>", "<IMG_CONTEXT>", "<start_of_image>")
COPY = "copy the template that the authors publish"


def _other_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2_vl"}))


def _moved(folder: Path) -> None:
    """The place of an image and token 0 change ids."""
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    added, words = stored["added_tokens"], stored["model"]["vocab"]
    one = next(token for token in added if token["id"] == 0)
    other = next(token for token in added if token["content"] in PLACES)
    one["id"], other["id"] = other["id"], one["id"]
    added.sort(key=lambda token: token["id"])
    words[one["content"]], words[other["content"]] = words[other["content"]], words[one["content"]]
    path.write_text(json.dumps(stored))


def _unknown_variable(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text((path.read_text() if path.exists() else GEMMA) + "{{ patient }}")


def _cut(folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[-1]
    path.write_bytes(path.read_bytes()[:-100])


BAD: dict[tuple[str, Callable[[Path], None]], str] = {
    ("lingshu-i-8b", _other_model): r"folder: weights-folder: .*it needs the model type internvl_chat",
    ("radvlm", _other_model): r"folder: weights-folder: .*kind qwen2_vl .*name the family",
    ("medgemma-1.5-4b-it", _other_model): r"folder: weights-folder: .*kind qwen2_vl .*name the family",
    ("lingshu-i-8b", _moved): r"tokens: tokenizer: .*tokens 3, 4 and 0.*copy the tokenizer",
    ("radvlm", _moved): r"tokens: tokenizer: <image> is token 0 of the tokenizer and 3 of the network",
    ("medgemma-1.5-4b-it", _moved): r"tokens: tokenizer: <start_of_image> is token 0 .* 6 of the network",
    ("radvlm", _unknown_variable): rf"chat template: .*'patient' is undefined.*{COPY}",
    ("medgemma-1.5-4b-it", _unknown_variable): rf"chat template: .*'patient' is undefined.*{COPY}",
    ("lingshu-i-8b", _cut): r"tensors: weights: model-00002-of-00002.safetensors is cut short",
    ("radvlm", _cut): r"tensors: weights: model.safetensors is cut short",
    ("medgemma-1.5-4b-it", _cut): r"tensors: weights: model.safetensors is cut short",
}


@pytest.mark.parametrize(("model", "spoil"), BAD, ids=lambda one: getattr(one, "__name__", one))
def test_a_bad_folder_is_refused_by_name(model: str, spoil: Callable[[Path], None], tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "weights", KINDS[model])
    spoil(folder)
    told = refusal(model, folder)
    assert re.match(BAD[model, spoil], told, re.S), told


@pytest.mark.parametrize("model", KINDS)
def test_a_file_that_samples_is_told_where_the_authors_decode_greedily(model: str, tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "weights", KINDS[model])
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6}')
    rows = {one.what: one for one in proven(model, folder).proofs}
    assert (
        "the file would sample (do_sample, temperature 0.6), this family does not" in rows["decoding"].found
    )
