"""What an image family proves of its folder when it is opened: its prompt, its template, its ends."""

from collections.abc import Mapping

from models.families.decoding import Decoding
from models.families.native.dialect import IMAGE_MARK, Dialect
from models.families.native.networks import ChatNetwork
from models.families.prompt_proof import compare_template, marks_of, prove_prompt, tokens_of
from pipeline.errors import StopRun

_ASKED = "What is shown?"


def prove_words(loaded: ChatNetwork, dialect: Dialect, decoding: Decoding) -> Mapping[str, str]:
    """Prove prompt and chat template of a loaded folder; what was found, in words, by what was looked at.

    Raises StopRun where the tokenizer or the template is not this family's.
    """
    frame = dialect.frame(IMAGE_MARK)
    if frame.count(IMAGE_MARK) > 1:  # a frame that has the image in itself
        frame = dialect.frame("")
    text = frame.replace(IMAGE_MARK, loaded.image_text)
    ids = tokens_of(loaded.tokenizer, text)
    prove_prompt(loaded.tokenizer, text, ids, blanks=dialect.blanks)
    marks = dict.fromkeys(marks_of(text))
    named = ", ".join(f"{mark} {loaded.tokenizer.convert_tokens_to_ids(mark)}" for mark in marks)
    return {
        "tokens": f"the prompt with an image is {len(ids)} tokens, its marks are their own: {named}",
        "chat template": _prove_template(loaded, dialect),
        "decoding": decoding.told,
    }


def _prove_template(loaded: ChatNetwork, dialect: Dialect) -> str:
    if not loaded.template_image:
        return "not used: these weights are asked in their authors' own words"
    if not loaded.template:
        return "the folder has none: asked in the words of this family"
    turns: list[dict[str, object]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _ASKED}]}
    ]
    if dialect.system:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": dialect.system}]})
    wanted = dialect.frame(f"{loaded.template_image}{_ASKED}")
    compare_template(loaded.template, wanted, turns, loaded.tokenizer)
    return "writes this family's prompt, word for word"


def end_tokens(loaded: ChatNetwork, dialect: Dialect, decoding: Decoding) -> list[int]:
    """The tokens that end a text: the family's, the tokenizer's and the checkpoint's own.

    Raises StopRun for one that the network does not have.
    """
    tokenizer = loaded.tokenizer
    ends = [tokenizer.convert_tokens_to_ids(text) for text in dialect.ends] + [tokenizer.eos_token_id]
    known = [one for one in ends if one is not None and one != tokenizer.unk_token_id]
    rows = loaded.network.get_input_embeddings().num_embeddings
    if strange := [one for one in decoding.ends if one >= rows]:
        message = f"generation_config.json ends a text on token {strange[0]} and the network has {rows}: copy it again"
        raise StopRun("tokenizer", message)
    return list(dict.fromkeys([*known, *decoding.ends]))
