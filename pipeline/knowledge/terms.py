"""What a text is found by, in Latin script and in Chinese, without an extension of Postgres.

Chinese is written without spaces: neighbouring characters are taken in pairs, as Lucene's CJKAnalyzer does.
"""

import re
import unicodedata

from pipeline.passages import Terms

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_HAN}]+|[0-9]+(?:\.[0-9]+)?(?![^\W_{_HAN}])|[^\W_{_HAN}]+")
_SAYS_NOTHING = re.compile(
    "什么|多少|多久|多长|多大|多高|怎么样|怎么|怎样|如何|哪些|哪个|哪种|哪里|是否|能否|可以|可否|需要|应该|应当|请问|"
    "患者|病人|使用|意思|叫做|称为|[的了吗呢是在]"
)
_ASKING = frozenset(
    """use used uses using give gives given tell please explain define definition mean means meaning called call much
    many long need needs needed patient patients must may""".split()  # noqa: SIM905 - a paragraph reads better
)
_SHORTEST_NAME, _SHORTEST_HAN_NAME = 4, 2
_LONGEST_WORD = 100


def terms_of(text: str) -> Terms:
    """The terms of a passage or a question; words that only ask are left out of both alike."""
    words, pairs = [], []
    for piece in _PIECE.findall(_plain(text)):
        if not _is_han(piece):
            if piece not in _ASKING and len(piece) <= _LONGEST_WORD:
                words.append(piece)
            continue
        for run in _SAYS_NOTHING.split(piece):
            pairs += (
                [run[at : at + 2] for at in range(len(run) - 1)] if len(run) > 1 else [run] if run else []
            )
    return Terms(" ".join(words), tuple(dict.fromkeys(pairs)))


def name_key(name: str) -> str:
    """A name as it is looked for in ``searchable``, "" where it is too short to be told from other words."""
    pieces = _PIECE.findall(_plain(name))
    key = " ".join(pieces)
    if len(pieces) == 1 and _is_han(key):
        return key if len(key) >= _SHORTEST_HAN_NAME else ""
    return f" {key} " if len(key) >= _SHORTEST_NAME else ""


def searchable(text: str) -> str:
    """``text`` so that each ``name_key`` that it names is part of it: whole words, Chinese anywhere."""
    return f" {' '.join(_PIECE.findall(_plain(text)))} "


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_han(piece: str) -> bool:
    return "\u3400" <= piece[0] <= "\u9fff" or "\uf900" <= piece[0] <= "\ufaff"
