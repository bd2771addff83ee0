"""Folders that a site brings, proved at the door: sound ones row by row, and what is refused by name."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from flows.cli import app
from flows.commands import ending
from models.catalog import show
from models.families.native import chat
from models.families.native.networks import load_tokenizer
from models.families.prompt_proof import compare_template, prove_prompt, render_template, tokens_of
from models.families.text.writing import until_end
from models.model_choice import EndpointOptions, ModelChoice
from models.proving import TRIAL_TOKENS, Proven, prove
from pipeline.errors import ConfigurationError, StopRun
from tests.engines import ENGINES, share_graphs
from tests.tiny_chat import write_chat_model
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model
from tests.unit.test_piece_file import folder as slow_folder

QWEN = (
    "{% set images = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "{% set images.value = images.value + 1 %}{% if add_vision_id %}Picture {{ images.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""In the form of Qwen2-VL's: a default system line, and a variable that nobody sets but that is only asked for."""
GEMMA = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for message in turns -%}{{ '<start_of_turn>' + message['role'] + '\n' + (first if loop.first else '') }}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- else -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
"""In the form of Gemma 3's: the system line stands before the first turn's words."""
slow = slow_folder


def proven(model_id: str, folder: Path) -> Proven:
    return prove(show(model_id), ModelChoice(model_id, folder, threads=1, accept_use_limits=True), ENGINES)


def refusal(model_id: str, folder: Path) -> str:
    """The one row that is not sound, which is the last."""
    rows = proven(model_id, folder).proofs
    assert [one.sound for one in rows] == [True] * (len(rows) - 1) + [False]
    return f"{rows[-1].what}: {rows[-1].found}"


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    folder = write_qwen(tmp_path / "qwen", "qwen2.5-vl")
    (folder / "chat_template.jinja").write_text(QWEN)
    return folder


def test_a_sound_folder_is_told_row_by_row(
    qwen: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def counted(row: list[int], ends: Sequence[int]) -> Any:
        written.append(len(row))
        return until_end(row, ends)

    monkeypatch.setattr(chat, "until_end", counted)
    share_graphs(tmp_path)
    site = tmp_path / "firstread.toml"
    site.write_text(
        f'data_dir = "{tmp_path}"\n[model]\nid = "lingshu-7b"\nweights = "{qwen}"\naccept_use_limits = true\n'
    )
    assert ending.run(app, ["models", "prove", "lingshu-7b", "--config", str(site), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {row["what"]: row["found"] for row in told["proofs"]}
    assert told["sound"] is True
    assert list(found) == ["files", "tensors", "memory needed", "network", "tokens", "chat template", "decoding",
                           "image", "text", "memory"]  # fmt: skip
    assert "<|im_start|> 1" in found["tokens"]
    assert "word for word" in found["chat template"]
    assert "greedy" in found["decoding"]
    assert "1024 x 840" in found["image"]
    assert "cut off at its limit" in found["text"], "random weights come to no end: a few tokens are enough"
    assert written == [TRIAL_TOKENS]
    assert told["parts"]["runner"] == "onnxruntime-cpu"


def test_gemmas_template_is_proved_too(tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "gemma", "medgemma")
    (folder / "chat_template.jinja").write_text(GEMMA)
    result = proven("medgemma-4b-it", folder)
    assert result.sound, result.proofs
    (folder / "chat_template.jinja").write_text(GEMMA.replace(">model", ">assistant"))
    assert refusal("medgemma-4b-it", folder).startswith(
        "chat template: chat-template: the chat template of this folder"
    )


@pytest.mark.parametrize("template", [QWEN, GEMMA])
def test_a_template_is_rendered_as_transformers_does(template: str, tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "gemma", "medgemma")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "You are an expert."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is shown?"}]},
    ]
    wanted = tokenizer.apply_chat_template(
        turns, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert render_template(template, turns, {"bos_token": "<bos>"}) == wanted
    compare_template(template, wanted, turns, tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{% for a in range(99999) %}{{ 'words and words and words' }}{% endfor %}", "too long"),
        (
            "{% set n = namespace(t='x' * 1000) %}{% for a in range(40) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
            "memory",
        ),
        ("{{ 'x'.__class__ }}", "SecurityError"),
        ("{{ nothing }}", "writes what nothing sets"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_takes_too_much_or_is_none_is_refused(template: str, message: str) -> None:
    with pytest.raises(StopRun, match=message) as caught:
        render_template(template, [{"role": "user", "content": "a"}], {})
    assert caught.value.code == "chat-template"


def _other_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "qwen2_vl"
    (folder / "config.json").write_text(json.dumps(config))


def _moved(folder: Path) -> None:
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    ids = {token["content"]: token for token in stored["added_tokens"]}
    first, second = ids["<|im_start|>"], ids["<|vision_start|>"]
    first["id"], second["id"] = second["id"], first["id"]
    stored["added_tokens"].sort(key=lambda token: token["id"])
    words = stored["model"]["vocab"]
    words["<|im_start|>"], words["<|vision_start|>"] = words["<|vision_start|>"], words["<|im_start|>"]
    path.write_text(json.dumps(stored))


def _template(text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(text)

    return spoil


def _samples(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.6}))


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BAD = {
    "another model": (_other_model, r"^folder: weights-folder: .*kind qwen2_vl .*name the family"),
    "moved ids": (_moved, r"^tokens: tokenizer: .*vision_start.*"),
    "a template with an unknown variable": (
        _template(QWEN + "{{ patient }}"), r"^chat template: .*'patient' is undefined.*copy the template"),
    "a template of other words": (
        _template(QWEN.replace(">assistant", ">doctor")), r"^chat template: .*doctor.*copy the template"),
    "a template that is none": (_template(QWEN + "{% image"), r"^chat template: .*copy it again"),
    "a generation_config that samples": (_samples, r"^decoding: .*temperature 0.6.*set do_sample to false"),
    "a shard that is cut short": (_cut, r"^tensors: .*model.safetensors.*(copy it again|cut short)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_is_not_this_familys_is_refused_by_name(qwen: Path, name: str) -> None:
    spoil, told = BAD[name]
    spoil(qwen)
    assert re.match(told, refusal("chexone", qwen), re.S), refusal("chexone", qwen)


def test_a_text_model_that_samples_is_refused_where_nothing_is_known_of_it(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "text", "llama")
    assert proven("text-llm", folder).sound
    _samples(folder)
    assert refusal("text-llm", folder).startswith("decoding: generation-config")


def test_a_text_template_that_writes_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "text", "llama")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ date_of_birth }}")
    assert "'date_of_birth' is undefined" in refusal("text-llm", folder)


def test_a_blank_behind_a_mark_is_seen(slow: Path) -> None:
    """What transformers alone makes of a SentencePiece folder: the marks are whole, and the text behind them is not."""
    text = "<|im_start|>system\nRead the film.<|im_end|><|im_start|>user\n<|im_end|>"
    ours = load_tokenizer(slow)
    prove_prompt(ours, text, tokens_of(ours, text))
    theirs: Any = AutoTokenizer.from_pretrained(slow, local_files_only=True)
    with pytest.raises(StopRun, match="other tokens than the network was trained on"):
        prove_prompt(theirs, text, tokens_of(theirs, text))


def test_a_server_is_not_proved() -> None:
    choice = ModelChoice(
        "lingshu-7b", endpoint=EndpointOptions("http://127.0.0.1:1", "m"), accept_use_limits=True
    )
    with pytest.raises(ConfigurationError, match="doctor"):
        prove(show("lingshu-7b"), choice, ENGINES)
