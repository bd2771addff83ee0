"""Tokenizers saved as a SentencePiece model alone (``tokenizer.model``, no ``tokenizer.json``), read as they were used.

transformers converts such a file when it opens the folder, puts a space in front of every text whatever the file says,
and knows only those marks that the JSON files beside it list. Both make other tokens of the same prompt.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StopRun

PIECE_FILE, FAST_FILE = "tokenizer.model", "tokenizer.json"
MAX_BYTES = 64 << 20
_USER_DEFINED = 4
"""SentencePiece's type of a piece that is never cut, whatever stands around it."""


@dataclass(frozen=True, slots=True)
class PieceFile:
    """What a model file says: whether a space goes in front of a text, and the ids of its own marks by text."""

    prefix: bool
    marks: dict[str, int]


def read_piece_file(folder: Path) -> PieceFile | None:
    """The SentencePiece model of a folder; None where transformers has a ``tokenizer.json`` or there is no model.

    Raises StopRun for a file that is not one.
    """
    path = folder / PIECE_FILE
    if (folder / FAST_FILE).is_file() or not path.is_file():
        return None
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StopRun("tokenizer", f"{path.name} is larger than any such file: copy the folder again")
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        message = f"{path.name} cannot be read ({type(error).__name__}): copy it again"
        raise StopRun("tokenizer", message) from None
    marks = {piece.piece: number for number, piece in enumerate(model.pieces) if piece.type == _USER_DEFINED}
    return PieceFile(bool(model.normalizer_spec.add_dummy_prefix), marks)


def open_tokenizer(folder: Path, **given: Any) -> Any:
    """The tokenizer of a folder by transformers, which reads a text as the folder's own files say.

    Raises as ``AutoTokenizer.from_pretrained``, and StopRun for a SentencePiece model that cannot be read, or
    whose marks have other ids in the files beside it.
    """
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    pieces = read_piece_file(folder)
    if pieces is not None and not pieces.prefix:
        given["add_prefix_space"] = False
    tokenizer: Any = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **given
    )
    if pieces is not None:
        unlisted = [mark for mark in pieces.marks if mark not in tokenizer.added_tokens_encoder]
        tokenizer.add_tokens([AddedToken(mark, normalized=False, special=True) for mark in unlisted])
        for mark, number in pieces.marks.items():
            if tokenizer.convert_tokens_to_ids(mark) != number:
                raise StopRun(
                    "tokenizer", f"the mark {mark} has another id than in {PIECE_FILE}: copy the folder again"
                )
    return tokenizer
