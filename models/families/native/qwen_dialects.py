"""Which words go with a Qwen-VL folder: those of its catalogue entry, or those that the folder brings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from models.catalog import CatalogEntry
from models.families.native.nv_reason import NvReasonWords
from models.families.native.qwen3_words import Qwen3Words, UniRgWords, check_own_words
from models.families.native.qwen_words import CheXOneWords, LingshuWords, QwenWords, UmitWords
from models.prompts import read_own_wordings
from pipeline.report import Language

OWN_WORDS = "prompts.toml"
"""The words of a fine-tune, in its folder, in the form of the files of ``models/prompts``."""
BRINGS_WORDS = "qwen3-vl.toml"
"""The prompt file of the entry whose folders may bring their own."""
WORDS: Mapping[str, Callable[[str, int], QwenWords]] = {
    "umit.toml": UmitWords,
    "lingshu.toml": LingshuWords,
    "chexone.toml": CheXOneWords,
    "nv-reason-cxr.toml": NvReasonWords,
    "unirg-cxr.toml": UniRgWords,
    BRINGS_WORDS: Qwen3Words,
}
"""The words that go with each prompt file of the catalogue."""


def find_dialect(entry: CatalogEntry, folder: Path) -> QwenWords:
    """The words of an entry; of a folder with ``OWN_WORDS`` those, where the entry takes them.

    Raises StopRun for words that cannot be read or filled.
    """
    own = folder / OWN_WORDS
    if entry.prompts == BRINGS_WORDS and own.is_file():
        wordings = read_own_wordings(own)
        check_own_words(wordings, own.name)
        return Qwen3Words(wordings, entry.images or 1)
    return WORDS[entry.prompts](entry.prompts, entry.images or 1)


def limit_to_words(entry: CatalogEntry, dialect: QwenWords) -> CatalogEntry:
    """``entry`` with the tasks alone that ``dialect`` has words for: a folder's own words may be of few."""
    worded = {key for key, language in dialect.wordings.texts if language is Language.ENGLISH}
    tasks = tuple(task for task in entry.tasks if task.value in worded)
    drafts = {name: held for name, held in entry.drafts.items() if name in worded}
    return entry if tasks == entry.tasks else replace(entry, tasks=tasks, drafts=drafts)
