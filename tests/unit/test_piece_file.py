"""Tokenizers that are a SentencePiece model alone, with Yi's settings; SentencePiece itself says the right ids."""

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece

from models.families.native.networks import load_tokenizer, token_id
from models.weight_loading.piece_file import PIECE_FILE
from pipeline.errors import StopRun

MARKS = ["<|im_start|>", "<|im_end|>", "<|im_sep|>"]
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<ref>", "</ref>", "<box>", "</box>")
SENTENCES = (
    "system user assistant Read the film and look at the heart, the lungs and the ribs.",
    "Is the heart of normal size? There is a small left effusion. [[10, 20, 300, 999]]",
    "请描述这张影像。左侧少量胸腔积液，心影增大。",
)
TEXTS = (
    "<|im_start|>system\nRead the film.<|im_end|><|im_start|>user\nLook at it. <|im_sep|>\nIs the heart normal?"
    "<|im_end|><|im_start|>assistant\n",
    "<|im_start|>user\n请描述这张影像。[[1, 20, 300, 999]]<|im_end|><|im_start|>assistant\n",
    "user assistant",
    "  two spaces in front",
)


@pytest.fixture(scope="module", params=["marks listed", "marks in the model alone"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a slow tokenizer of transformers 4 saved: no ``tokenizer.json``, the marks listed or not."""
    made = tmp_path_factory.mktemp("slow")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_prefix=str(made / "tokenizer"), vocab_size=420,
        model_type="bpe", user_defined_symbols=MARKS, add_dummy_prefix=False, byte_fallback=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity", hard_vocab_limit=False,
        bos_piece="<|startoftext|>", eos_piece="<|endoftext|>", minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(made / PIECE_FILE))
    listed = {model.piece_to_id(mark): mark for mark in MARKS} if request.param == "marks listed" else {}
    listed |= {number: model.id_to_piece(number) for number in range(3)}
    listed |= {model.get_piece_size() + place: mark for place, mark in enumerate(ADDED)}
    settings = {
        "tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": False, "add_eos_token": False,
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<unk>",
        "added_tokens_decoder": {
            str(number): {
                "content": mark, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
                "special": True,
            }
            for number, mark in sorted(listed.items())
        },
    }  # fmt: skip
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    return made


def test_texts_have_the_ids_of_the_model_file(folder: Path) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / PIECE_FILE))
    tokenizer = load_tokenizer(folder)
    for text in TEXTS:
        assert tokenizer(text).input_ids == model.encode(text)


def test_marks_beside_the_model_stand_between_texts_without_a_space(folder: Path) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / PIECE_FILE))
    tokenizer = load_tokenizer(folder)
    first = model.get_piece_size()
    wanted = [*model.encode("Look: "), first, first + 2, first + 1, *model.encode("\nIs it?<|im_end|>")]
    assert tokenizer("Look: <img><IMG_CONTEXT></img>\nIs it?<|im_end|>").input_ids == wanted
    boxed = "<ref>left lung</ref><box>[[10, 20, 300, 999]]</box>: clear"
    assert tokenizer.decode(tokenizer(boxed).input_ids) == boxed
    for mark in (*MARKS, *ADDED):
        assert token_id(tokenizer, mark)


def test_a_mark_that_is_cut_to_pieces_stops_the_run(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if "<|im_start|>" in tokenizer.added_tokens_encoder:
        pytest.skip("listed, so transformers alone keeps it whole")
    with pytest.raises(StopRun, match=r"cuts .* to pieces"):
        token_id(tokenizer, "<|im_start|>")


def test_a_model_file_that_is_none_stops_the_run(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / PIECE_FILE).write_bytes(b"\xff\xff no model")
    with pytest.raises(StopRun, match="copy it again"):
        load_tokenizer(damaged)
