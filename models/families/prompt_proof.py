"""A family's whole prompt, proved on the tokenizer and the chat template that a folder brings.

That a mark such as ``<|im_start|>`` has an id does not say that a prompt is read with it: a tokenizer that puts a blank
in front of what follows, or cuts the mark to pieces, makes other tokens than the network was trained on, and nothing
fails. So the prompt without a question is read once when a family is opened, and its tokens are taken apart again.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from threading import Thread
from typing import Any

from models.families import rendering
from pipeline.child_process import bare
from pipeline.errors import StopRun

RENDER_SECONDS = 60.0
"""On a machine that is busy; of the processor's time the program has five seconds."""

_MARK = re.compile(
    r"<\|[^|>]{1,40}\|>|</?s>|<bos>|</?(?:img|image|IMG_CONTEXT|image_soft_token)>|<(?:start|end)_of_(?:turn|image)>"
)

_TRAINING_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Where training counts the loss; they write nothing."""


def marks_of(text: str) -> list[str]:
    """The marks in a prompt, in order."""
    return _MARK.findall(text)


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a whole prompt: the tokenizer's start token in front, unless the text begins with it."""
    starts = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=not starts).input_ids)


def prove_prompt(tokenizer: Any, text: str, ids: Sequence[int], *, blanks: bool = False) -> None:
    """That ``ids`` are the prompt ``text``: each mark one token with its own id, and between them the text alone.

    ``blanks`` says that this family was trained with a blank in front of each text, which its tokenizer puts there.
    Raises StopRun("tokenizer") where the tokenizer reads it otherwise.
    """
    marks = marks_of(text)
    numbers = [_number(tokenizer, mark) for mark in marks]
    alone = list(tokenizer("".join(marks), add_special_tokens=False).input_ids)
    if alone != numbers:
        raise StopRun("tokenizer", _otherwise(_first_wrong(marks, numbers, alone)))
    added = ids[:1] == [tokenizer.bos_token_id] and not text.startswith(tokenizer.bos_token)
    own, known = list(ids[added:]), set(numbers)
    if [one for one in own if one in known] != numbers:
        raise StopRun("tokenizer", _otherwise("one of its marks is not read where it stands"))
    read = tokenizer.decode(own, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if _plain(read, blanks) != _plain(text, blanks):
        raise StopRun("tokenizer", _otherwise(_first_other(_plain(read, blanks), _plain(text, blanks))))


def _number(tokenizer: Any, mark: str) -> int:
    number = tokenizer.convert_tokens_to_ids(mark)
    if number is None or number == tokenizer.unk_token_id:
        raise StopRun("tokenizer", f"the tokenizer has no token {mark}, which this family's prompt needs")
    return int(number)


def _plain(text: str, blanks: bool) -> str:
    """``text``, with ``blanks`` without those beside marks and at its start."""
    return re.sub(rf" *({_MARK.pattern}) *", r"\1", text).strip() if blanks else text


def _first_wrong(marks: Sequence[str], numbers: Sequence[int], read: Sequence[int]) -> str:
    for place, (mark, number) in enumerate(zip(marks, numbers, strict=True)):
        if read[place : place + 1] != [number]:
            return f"{mark} is not read as its own token {number}"
    return "tokens stand between its marks"


def _first_other(read: str, wanted: str) -> str:
    place = next((at for at, (a, b) in enumerate(zip(read, wanted, strict=False)) if a != b), len(wanted))
    return f"{wanted[max(0, place - 12) : place + 12]!r} is read as {read[max(0, place - 12) : place + 12]!r}"


def _otherwise(what: str) -> str:
    return (
        f"the tokenizer reads this family's prompt as other tokens than the network was trained on: {what}. Copy the "
        "tokenizer files that the authors publish with these weights, whole"
    )


def render_template(template: str, turns: Sequence[Mapping[str, Any]], tokens: Mapping[str, Any]) -> str:
    """The prompt that a folder's chat template makes of ``turns``; ``tokens`` are its special tokens by name.

    The template is run in jinja2's sandbox, in a process whose time and memory are bounded (``rendering``). Raises
    StopRun("chat-template") where it is none, writes a variable that nothing sets, or does not come to an end.
    """
    made = _rendered(_asked(template, turns, tokens))
    if "undefined" in made:
        message = (
            f"the chat template writes what nothing sets ({made['undefined']}): copy the template that the authors "
            "publish with these weights"
        )
        raise StopRun("chat-template", message)
    if "made" not in made:
        raise StopRun("chat-template", f"the chat template cannot be used ({made['error']}): copy it again")
    return made["made"]


@contextmanager
def rendering_beside(
    template: str, turns: Sequence[Mapping[str, Any]], tokens: Mapping[str, Any]
) -> Iterator[None]:
    """Render a template while the block runs, where it is not known yet; ``render_template`` then finds it made."""
    asked = _asked(template, turns, tokens)

    def render() -> None:
        with suppress(OSError, ValueError):  # whoever asks for the template meets it again
            _rendered(asked)

    beside = Thread(target=render, name="chat-template", daemon=True)
    beside.start()
    try:
        yield
    finally:
        beside.join()


def _asked(template: str, turns: Sequence[Mapping[str, Any]], tokens: Mapping[str, Any]) -> str:
    return json.dumps(
        {"template": _TRAINING_TAG.sub("", template), "messages": list(turns), "tokens": dict(tokens)}
    )


@lru_cache(maxsize=64)
def _rendered(asked: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", rendering.__file__],
            input=asked,
            capture_output=True,
            text=True,
            timeout=RENDER_SECONDS,
            env=bare(os.environ),  # noqa: TID251 - so that it is given less
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": "it does not end"}
    if done.returncode:
        return {"error": "it does not end, or needs too much memory"}
    made: dict[str, str] = json.loads(done.stdout)
    return made


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """The special tokens of a tokenizer as a template names them."""
    return {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}


def compare_template(template: str, wanted: str, turns: Sequence[Mapping[str, Any]], tokenizer: Any) -> None:
    """Raises StopRun("chat-template") unless the folder's template makes ``wanted`` of ``turns``."""
    made = render_template(template, turns, special_tokens(tokenizer))
    if made != wanted:
        message = (
            f"the chat template of this folder writes another prompt than this family was trained on "
            f"({_first_other(made, wanted)}): copy the template that the authors publish with these weights, or name "
            "the family that it belongs to"
        )
        raise StopRun("chat-template", message)
