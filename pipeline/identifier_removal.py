"""Free text without what names a person: the study's own identifiers, and what looks like one.

A request form may hold anything in its reason. Before such a text may go into a prompt, every name and number that the
study's headers know is taken out of it, in any case, with or without accents and separators, and so is what has the
form of a date, a long number, an address of the network, a name behind a title. ``___`` stands where it was, as in
published de-identified reports. A name that no header knows and that follows no title cannot be told from other words.
"""

import re
import unicodedata
from collections.abc import Iterator

from pipeline.study import StudyContext

REMOVED = "___"
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)(?:uary|ruary|ch|il|e|y|ust|tember|ober|ember)?\.?"
_LOOKS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"\S+@\S+",
        r"(?:https?://|www\.)\S+",
        r"[0-2](?:\.\d+){4,}",
        r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}",
        r"\d{2,4}\s?年(?:\s?\d{1,2}\s?月)?(?:\s?\d{1,2}\s?[日号])?|\d{1,2}\s?月\s?\d{1,2}\s?[日号]",
        rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTHS}\b(?:,?\s+\d{{4}})?",
        rf"\b{_MONTHS}\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}})?",
        r"\b(?:on|since|until|dated)\s+\d{1,2}[/.]\d{1,2}\b",
        r"\b(?:mrn|dob|id|tel|phone|name|acc(?:ession)?|pid)\s*(?:no|nr|number)?\s*[.:#]+\s*\S+",
        r"\+?\d[\d\s()-]{6,}\d",
        r"\w*\d{5,}\w*",
        r"\b(?:9\d|1[0-2]\d)\s?-?\s?(?:years?|yrs?|y/?o)\b|(?:9\d|1[0-2]\d)\s?岁",
        r"\b(?-i:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|DR|MR|MRS|Doctor|Herr|Frau)\b\.?\s+"
        r"(?-i:[A-Z\u00c0-\u00de])[\w'\u2019-]*(?:\s+(?-i:[A-Z\u00c0-\u00de])[\w'\u2019-]+)*",
        r"[\u4e00-\u9fff]{1,3}(?:医生|医师|大夫|先生|女士|主任)",
    )
)


def without_identifiers(text: str, context: StudyContext) -> str:
    """``text`` with ``___`` for whatever in it names the patient, another person, the study or a day."""
    for known in _known(context):
        text = _cut(text, known)
    for looks in _LOOKS:
        text = looks.sub(REMOVED, text)
    return re.sub(rf"{REMOVED}(?:[\s,.;:-]*{REMOVED})+", REMOVED, text).strip()


def _known(context: StudyContext) -> Iterator[re.Pattern[str]]:
    """Patterns over folded text, longer ones first."""
    patient = context.patient
    numbers = (
        patient.patient_id,
        context.accession_number,
        context.study_instance_uid,
        # a procedure's or study's own number may be a word or one digit, which leads to nobody
        *(one for one in (context.study_id, *context.identifiers) if len(one) > 2 and re.search(r"\d", one)),
    )
    whole = {_folded(one) for one in (*numbers, context.institution)}
    parts: set[str] = set()
    for name in (*patient.name_groups, *context.persons):
        pieces = [piece for piece in re.split(r"[\W_]+", _folded(name)) if piece]
        parts |= {piece for piece in pieces if len(piece) > 1}
        parts |= {"".join(pieces), "".join(reversed(pieces))}
    runs = [re.findall(r"[^\W_]+", one) for one in whole | parts]
    for run in sorted(filter(None, runs), key=lambda run: -sum(map(len, run))):
        joined = r"[\W_]*".join(map(re.escape, run))
        if _is_han("".join(run)):
            yield re.compile(joined)
        else:
            yield re.compile(rf"(?<![^\W_]){joined}(?![^\W_])")


def _cut(text: str, known: re.Pattern[str]) -> str:
    """``text`` without what ``known`` finds in its folded form, letter by letter in the same place."""
    folded, places = "", list[int]()
    for place, letter in enumerate(text):
        plain = _folded(letter)
        folded += plain
        places += [place] * len(plain)
    for found in reversed(list(known.finditer(folded))):
        text = text[: places[found.start()]] + REMOVED + text[places[found.end() - 1] + 1 :]
    return text


def _folded(text: str) -> str:
    """One case, no accents."""
    return "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(letter)
    )


def _is_han(text: str) -> bool:
    return any("\u3400" <= letter <= "\u9fff" for letter in text)
