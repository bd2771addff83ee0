"""A tokenizer and a chat template that belong to the weights beside them, checked on the files alone."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.weight_loading.weight_files import WeightFolder
from pipeline.errors import StopRun

MAX_JSON = 128 << 20
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight")
NAMED_TOKENS = ("eos_token_id", "image_token_id", "image_token_index", "video_token_id", "vision_start_token_id",
                "vision_end_token_id", "boi_token_index", "eoi_token_index")  # fmt: skip
"""Keys of config.json whose tokens a prompt or its end needs."""


def check_tokenizer(weights: WeightFolder, *, images: bool) -> None:
    """Compare tokenizer, configuration, chat template and embedding rows of a folder.

    ``images`` says that the family writes images into the chat. Files that a folder does not have are not compared:
    the family's own loading says what it lacks. Raises StopRun where two of them do not belong together.
    """
    folder = weights.folder
    config = read_json(folder / "config.json")
    tokenizer = read_json(folder / "tokenizer.json")
    rows = embedding_rows(weights)
    ids = token_ids(tokenizer)
    if ids:
        highest = max(ids.values())
        if rows and highest >= rows:
            message = f"the tokenizer has a token {highest} and the network {rows} rows: they do not belong together"
            raise StopRun("tokenizer", message)
        known = set(ids.values())
        for key, number in _named(config):
            if number not in known:
                message = f"config.json names token {number} ({key}), which the tokenizer does not have"
                raise StopRun("tokenizer", message)
        stated = read_json(folder / "tokenizer_config.json")
        for key, text in _special(stated):
            if text not in ids:
                raise StopRun(
                    "tokenizer", f"tokenizer_config.json names a {key} that the tokenizer does not have"
                )
        for text, number in _listed(stated):
            if ids.get(text) != number:
                message = (
                    f"{text} is token {number} in tokenizer_config.json and {ids.get(text)} in tokenizer.json: the "
                    "tokenizer is another model's; copy both files that the authors publish with these weights"
                )
                raise StopRun("tokenizer", message)
    elif rows:
        for key, number in _named(config):
            if number >= rows:
                raise StopRun(
                    "tokenizer", f"config.json names token {number} ({key}) and the network has {rows} rows"
                )
    template = chat_template(folder)
    if images and template and "image" not in template.lower():
        message = (
            "the chat template of this folder has no place for an image: it is that of a text model; copy the "
            "template that the authors publish with these weights"
        )
        raise StopRun("chat-template", message)


def embedding_rows(weights: WeightFolder) -> int:
    """Rows of the token embedding, 0 where the folder holds none under a known name (an adapter, a GGUF file)."""
    rows = [
        info.shape[0]
        for name, info in weights.tensors.items()
        if name.endswith(EMBEDDINGS) and len(info.shape) == 2 and "lora" not in name
    ]
    return max(rows, default=0)


def token_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Ids by token of a ``tokenizer.json``: those of the model and the added ones; {} where it has no such table."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    ids: dict[str, int] = {}
    if isinstance(vocabulary, Mapping):
        ids = {str(token): number for token, number in vocabulary.items() if isinstance(number, int)}
    elif isinstance(vocabulary, list):  # Unigram: pairs of token and score, in the order of the ids
        ids = {
            str(pair[0]): number for number, pair in enumerate(vocabulary) if isinstance(pair, list) and pair
        }
    added = tokenizer.get("added_tokens")
    for one in added if isinstance(added, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("id"), int):
            ids[str(one.get("content"))] = one["id"]
    return ids


def chat_template(folder: Path) -> str:
    """The chat template of a folder as its authors saved it, "" where it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StopRun("chat-template", f"{path.name} cannot be read ({type(error).__name__})") from None
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, str):
            return template
    return ""


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object from a folder of weights, {} where the file is absent. Raises StopRun where it is not one."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise StopRun("weights", f"{path.name} is larger than any such file: copy the folder again")
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise StopRun(
            "weights", f"{path.name} cannot be read ({type(error).__name__}): copy it again"
        ) from None
    if not isinstance(stored, dict):
        raise StopRun("weights", f"{path.name} is not a JSON object: copy it again")
    return stored


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Tokens that a configuration names, those of its text part too."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in NAMED_TOKENS:
            value = part.get(key)
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
                    yield key, number


def _special(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("eos_token", "bos_token", "pad_token"):
        value = config.get(key)
        text = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(text, str) and text:
            yield key, text


def _listed(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The added tokens that ``tokenizer_config.json`` lists, with their ids."""
    listed = config.get("added_tokens_decoder")
    for number, token in listed.items() if isinstance(listed, Mapping) else ():
        content = token.get("content") if isinstance(token, Mapping) else None
        if isinstance(content, str) and str(number).isdecimal():
            yield content, int(number)
