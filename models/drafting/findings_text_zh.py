"""Reading the sentences of a draft in Chinese: what each says is present or absent.

Written for chest-film reports in the register of ``models/vocabulary/chinese.py``. A denial (未见, 无) holds for the
clause behind it; words of comparison (较前) and of a lateral film (侧位片) are not read as sides or sizes.
"""

import re
from collections.abc import Iterator

from models.vocabulary.chinese import KIND_PATTERNS_ZH, SEVERITY_WORDS_ZH, ZONES_ZH
from models.vocabulary.english import CLEAR_LUNGS
from pipeline.report import Finding, Side

SCRIPT = re.compile(r"[\u4e00-\u9fff]")
_KINDS = {kind: re.compile(pattern) for kind, pattern in KIND_PATTERNS_ZH.items()}
_CLAUSE_END = re.compile(r"[，；,;]|但|而(?=[左右双])")
_DENIED = re.compile(r"未见|未发现|未及|未显示|没有|不考虑|排除|除外|(?<!有)无(?!变化|明显变化)")
_DENIED_AFTER = re.compile(r"^[^见]*?(?:消失|已吸收|未见|不明显)")
_CLEAR = re.compile(r"(?:肺野?|肺部|肺纹理)[^，。]*清晰")
_HEART_NORMAL = re.compile(r"正常|不大|未见[^，。]*增大|无[^，。]*增大")
_SIDES = {"双": Side.BILATERAL, "两": Side.BILATERAL, "左": Side.LEFT, "右": Side.RIGHT}
_HEART = "cardiomegaly"


def read_sentence(sentence: str) -> Iterator[Finding]:
    """What one sentence states, in its order."""
    side: Side | None = None
    for clause in _CLAUSE_END.split(sentence):
        if clause.startswith(("较前", "较上次", "与前")):
            continue
        clause = clause.partition("较前")[0].replace("侧位片", "")
        side = _side(clause) or side
        if _CLEAR.search(clause):
            yield from (
                Finding(kind, present=False, side=_side(clause), sentence=sentence) for kind in CLEAR_LUNGS
            )
            continue
        yield from _read_clause(clause, side, sentence)


def _read_clause(clause: str, side: Side | None, sentence: str) -> Iterator[Finding]:
    mentions = sorted(
        (match.start(), match.end(), kind)
        for kind, pattern in _KINDS.items()
        for match in pattern.finditer(clause)
    )
    for number, (start, end, kind) in enumerate(mentions):
        before = clause[mentions[number - 1][1] if number else 0 : start]
        if kind == _HEART:
            present = not _HEART_NORMAL.search(clause)
        else:
            present = not (_DENIED.search(clause[:start]) or _DENIED_AFTER.search(clause[end:]))
        yield Finding(
            kind,
            present=present,
            side=None if kind == _HEART else (_side(before) or side),
            zone=next((zone for zone, word in ZONES_ZH.items() if word in before), "") if present else "",
            severity=_severity(kind, before + clause[start:end]) if present else "",
            sentence=sentence,
        )


def _side(words: str) -> Side | None:
    named = {_SIDES[letter] for letter in words if letter in _SIDES}
    if Side.BILATERAL in named or named >= {Side.LEFT, Side.RIGHT}:
        return Side.BILATERAL
    return next(iter(named), None)


def _severity(kind: str, words: str) -> str:
    return next((level for word, level in SEVERITY_WORDS_ZH.get(kind, {}).items() if word in words), "")
