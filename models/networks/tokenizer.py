"""The word-level tokenizer of firstread-mini: every word a report can hold, with its leading space."""

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from models.networks.mini import SPECIAL_TOKENS, UNKNOWN
from models.simulation.phrases import TOKEN_PATTERN, every_sentence, join_sections, split_tokens


def build_tokenizer() -> Tokenizer:
    """A tokenizer whose decoding of an encoded report is the report, letter for letter."""
    words: set[str] = set()
    for sentence in every_sentence():
        words.update(split_tokens(join_sections(f"{sentence} {sentence}", sentence)))
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *sorted(words)))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(TOKEN_PATTERN), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return tokenizer
