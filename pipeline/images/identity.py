"""Whose study it is: one patient by every header, or none (PS3.3 C.7.1.1, C.2.2).

A Patient ID identifies only together with its issuer, and a number that a device puts where it has none identifies
nobody. Headers that disagree as a typing error does (case, accents, a name's further groups) are of one patient.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from pipeline.errors import FailStudy
from pipeline.images.headers import Elements, Header, items, read_date, text
from pipeline.patient_number import identifying
from pipeline.study import Remark
from pipeline.study_context import PatientIdentity

_LETTERS = str.maketrans(
    {
        "ø": "o",
        "æ": "a",
        "œ": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)
"""Letters that Unicode does not take apart, as they are written without them."""
_TRANSLITERATED = (("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a"), ("ss", "s"), ("dj", "d"))
"""How the umlauts of German and Scandinavian names, and the crossed d of Croatian ones, are written without them."""
_PAIRS = (
    "ةه ىي یي کك 髙高 﨑崎 邊辺 邉辺 齋斉 齊斉 斎斉 濱浜 濵浜 澤沢 廣広 國国 櫻桜 眞真 瀨瀬 嶋島 "
    "嶌島 德徳 張张 陳陈 劉刘 黃黄 趙赵 吳吴 鄭郑 馮冯 許许 鄧邓 蕭萧 蔣蒋 葉叶 蘇苏 呂吕 盧卢 鍾钟 譚谭 "
    "陸陆 韓韩 羅罗 謝谢 楊杨 馬马 孫孙 偉伟 麗丽 華华 龍龙 鳳凤 蘭兰 強强 軍军"
)
_VARIANTS = {ord(pair[0]): pair[1] for pair in _PAIRS.split()} | {ord("ـ"): ""}
"""Letters of one meaning that keyboards write in two ways: Arabic and Persian, old and new ideographs of names."""
_LOST = "?\N{REPLACEMENT CHARACTER}"
"""What stands where a system could not write a letter."""
_CUT_BEHIND = 14
"""Letters that the shortest name field of a device holds (16 with its separators)."""


@dataclass(frozen=True, slots=True)
class _Name:
    """One component group of a name: its words, and its letters in their order, whatever stands between them."""

    words: frozenset[str]
    letters: str = field(compare=False)
    lost: bool = False
    """Whether some of its letters could not be written, and "?" stands for them."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """What one header says of its patient; ``number`` is "" where it identifies nobody."""

    number: str
    local: str
    universal: str
    names: tuple[_Name, ...]
    birth: date | None
    sex: str
    spelled: tuple[str, str]

    @property
    def told(self) -> int:
        """How much of the patient the header tells; a number before all else."""
        return (
            8 * bool(self.number)
            + 4 * bool(self.local or self.universal)
            + 2 * any(name.words for name in self.names)
            + bool(self.birth)
        )


def one_patient(headers: Sequence[Header]) -> tuple[Remark, ...]:
    """What of the headers disagrees and may be a typing error. Raises FailStudy("mixed-patients") for all else."""
    found = [_identity(header.dataset) for header in headers]
    if not found:
        return ()
    known = max(found, key=lambda one: one.told)
    apart = any(_contradict(*pair) for pair in itertools.combinations(dict.fromkeys(found), 2))
    if apart or not all(_same(one, known) for one in found):
        raise FailStudy(
            "mixed-patients", "the study's instances name different patients; correct them in the archive"
        )
    remarks = []
    if len({one.spelled for one in found if any(one.spelled)}) > 1:
        remarks.append(
            Remark("patient-spelling", "the patient's name or number is not spelled alike in all headers")
        )
    if known.number and not all(one.number for one in found):
        remarks.append(
            Remark("patient-number", "headers without a patient number: name and birth date agree")
        )
    if len({one.sex for one in found if one.sex}) > 1:
        remarks.append(Remark("patient-sex", "the headers do not agree on the patient's sex"))
    return tuple(remarks)


def patient_of(datasets: Sequence[Elements]) -> PatientIdentity:
    """The patient whom the headers agree on: number and issuer of one header, that which tells most."""
    ordered = sorted(datasets, key=lambda dataset: -_identity(dataset).told)
    groups = [group.strip().rstrip("^") for group in _first(ordered, "PatientName").split("=")][:3]
    while groups and not groups[-1]:
        groups.pop()
    return PatientIdentity(
        patient_id=text(ordered[0], "PatientID") if ordered else "",
        issuer=text(ordered[0], "IssuerOfPatientID") if ordered else "",
        name_groups=tuple(groups),
        birth_date=read_date(_first(ordered, "PatientBirthDate")),
        sex=_first(ordered, "PatientSex"),
    )


def _contradict(one: _Identity, other: _Identity) -> bool:
    """Whether two headers cannot be of one patient.

    Each is compared with each: a header that tells little agrees with two patients as well as with one.
    """
    told = (
        (one.number, other.number),
        (one.local, other.local),
        (one.universal, other.universal),
        (one.birth, other.birth),
    )
    differ = any(mine and theirs and mine != theirs for mine, theirs in told)
    return differ or _names_agree(one.names, other.names) is False


def _same(one: _Identity, known: _Identity) -> bool:
    """Whether a header, which contradicts none, is proved to be of the known patient."""
    if one.number and known.number:
        return True
    if not one.number and not known.number and (one.names, one.birth) == (known.names, known.birth):
        return True
    return _names_agree(one.names, known.names) is True and one.birth is not None and one.birth == known.birth


def _names_agree(one: tuple[_Name, ...], other: tuple[_Name, ...]) -> bool | None:
    """True where two names are one written twice, None where they cannot be compared or one may be part of the other.

    Component groups are compared with those in the same script, wherever they stand (PS3.5 6.2.1): devices write a
    Chinese name into the first group, too. One alphabetic, one ideographic say nothing. A name that leaves out a
    component, say the second given name, is the same, and so is one whose words are parted elsewhere (O'Brien, OBrien).
    One that was cut, has an initial for a given name, or lost letters on its way may be the same: a number has to say.
    """
    pairs = [
        (mine, theirs)
        for mine in one
        for theirs in other
        if mine.words and theirs.words and _script(mine.words) == _script(theirs.words)
    ]
    if not pairs:
        return None
    if any(
        mine.words <= theirs.words or theirs.words <= mine.words or mine.letters == theirs.letters
        for mine, theirs in pairs
    ):
        return True
    may = any(_may_be_of(mine, theirs) or _may_be_of(theirs, mine) for mine, theirs in pairs)
    return None if may else False


def _may_be_of(short: _Name, full: _Name) -> bool:
    """Whether ``short`` may be ``full`` as a system with fewer letters writes it."""
    if short.lost:
        return _is_full_with_gaps(short.letters, full.letters)
    if len(short.letters) >= _CUT_BEHIND and full.letters.startswith(short.letters):
        return True
    initials = {word for word in short.words - full.words if len(word) == 1}
    return bool(short.words & full.words) and all(
        word in full.words or (word in initials and any(one.startswith(word) for one in full.words))
        for word in short.words
    )


def _is_full_with_gaps(letters: str, full: str) -> bool:
    """Whether ``full`` has the letters around each "?" in their order, and they are half of it at least."""
    first, *others = letters.split("?")
    at = len(first)
    if not full.startswith(first) or 2 * len(letters.replace("?", "")) < len(full):
        return False
    for piece in others:
        found = full.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return full.endswith(others[-1])


def _script(pieces: frozenset[str]) -> str:
    """The script of a name, as Unicode names its letters: LATIN, CJK, HANGUL, CYRILLIC."""
    letter = next((one for one in "".join(sorted(pieces)) if one.isalpha()), "")
    return unicodedata.name(letter, "").partition(" ")[0] if letter else ""


def _identity(dataset: Elements) -> _Identity:
    number, name = text(dataset, "PatientID"), text(dataset, "PatientName")
    local, _, rest = text(dataset, "IssuerOfPatientID").casefold().partition("&")  # HL7 writes name&UID&type
    issuers = [
        text(item, "UniversalEntityID") for item in items(dataset, "IssuerOfPatientIDQualifiersSequence")
    ]
    issuers.append(rest.partition("&")[0])
    return _Identity(
        number=identifying(number),
        local=local,
        universal=next((one.casefold() for one in issuers if one), ""),
        names=tuple(map(_name, name.split("="))),
        birth=read_date(text(dataset, "PatientBirthDate")),
        sex=text(dataset, "PatientSex").upper(),
        spelled=(number, name.rstrip("^=")),
    )


def _name(group: str) -> _Name:
    """The words of a name in one case, without accents and the ways around them; none of one that names nobody."""
    decomposed = unicodedata.normalize("NFKD", _as_meant(group).casefold())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter)).translate(_LETTERS)
    for written, meant in _TRANSLITERATED:
        plain = plain.replace(written, meant)
    plain = plain.translate(_VARIANTS).replace(_LOST[1], "?")
    words = [piece for piece in re.split(r"[^\w?]+|_+", plain) if piece.strip("?")]
    if not any(letter.isalpha() for letter in plain) or not identifying(" ".join(words)):
        return _Name(frozenset(), "")
    return _Name(frozenset(words), "".join(words), any("?" in word for word in words))


def _as_meant(text: str) -> str:
    """UTF-8 that was read as Latin-1, as it was written; every other text as it is."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _first(datasets: Sequence[Elements], keyword: str) -> str:
    return next((found for dataset in datasets if (found := text(dataset, keyword))), "")
