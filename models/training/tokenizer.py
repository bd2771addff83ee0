"""The tokenizer of firstread-mini: every word its prompts and answers can hold, with its leading space."""

from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from models.networks.mini import SPECIAL_TOKENS, UNKNOWN
from models.vocabulary.chinese import every_sentence_zh
from models.vocabulary.english import TOKEN_PATTERN, every_sentence, join_sections, split_tokens
from models.vocabulary.prompts import headed, prompt_text
from models.vocabulary.task_words import (
    CHANGE_ANSWERS,
    DEPTH_ANSWERS,
    LANGUAGES,
    LIST_MARK,
    NAMES,
    NO_LABEL,
    NUMBERS,
    SIDE_ANSWERS,
    SIZE_ANSWERS,
    TASKS,
    YES_NO,
    every_question,
    every_target,
    question_text,
    size_answer,
)

_ASKING = tuple(f"<{name}>" for name in (*TASKS, *LANGUAGES))


def _texts() -> Iterator[str]:
    """Texts that hold every word of the vocabulary."""
    yield from (join_sections(f"{sentence} {sentence}", sentence) for sentence in every_sentence())
    yield from (*every_sentence(), *every_sentence_zh())
    for language in LANGUAGES:
        for section in ("findings", "impression"):
            yield from (headed(section, "", language), f" {headed(section, '', language)}")
        yield from (f" {question_text(question, language)}" for question in every_question())
        names = [*NAMES[language].values(), NO_LABEL[language]]
        for target in [*names, *(words for words, _, _ in every_target(language))]:
            yield from (target, f" {target}", target[0].upper() + target[1:], f"No {target}.")
        for answers in (YES_NO, SIDE_ANSWERS, SIZE_ANSWERS, CHANGE_ANSWERS, DEPTH_ANSWERS):
            yield from answers[language].values()
        yield LIST_MARK[language]
        for task in TASKS:
            text = prompt_text(task, language)
            for name in ("target", "question", "labels", "text", "box"):
                text = text.replace(f"{{{name}}}", " {" if name == "box" else "")
            yield text.removeprefix(f"<{task}>").removeprefix(f"<{language}>")
    yield from (size_answer("cardiomegaly", level, "zh") for level in ("mild", "moderate", "marked"))
    yield from ("No nodule or consolidation.", " {}{", "未见结节及实变。")


def build_tokenizer() -> Tokenizer:
    """A tokenizer whose decoding of an encoded prompt or answer is that text, letter for letter.

    Ids: ``SPECIAL_TOKENS``, the tokens that ask, the numbers, then the words in their order. Decoded with its
    defaults it leaves out pad, end, task and language tokens, and keeps the numbers.
    """
    words = {token for text in _texts() for token in split_tokens(text)}
    asking = [token for token in dict.fromkeys((*SPECIAL_TOKENS, *_ASKING)) if token not in NUMBERS]
    vocabulary = {token: index for index, token in enumerate((*asking, *NUMBERS, *sorted(words)))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(TOKEN_PATTERN), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in asking])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in NUMBERS])
    return tokenizer
