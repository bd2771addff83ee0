"""Free text without what names a person: the study's own identifiers, and what looks like one.

A request form may hold anything in its reason. Before such a text may go into a prompt, every name and number that the
study's headers know is taken out of it, in any case, with or without accents and separators, and so is what has the
form of a date, a long number, an address, an age above 89, a name behind a title (``identifier_forms``); a name once
found is taken out wherever it stands. ``___`` stands where it was, as in published de-identified reports. A name that
no header knows and that follows no title cannot be told from other words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from pipeline.identifier_forms import FORMS, SPOKEN_OF, TITLED
from pipeline.study_context import StudyContext

REMOVED = "___"
LONGEST_TEXT = 4000
"""Characters of a free text that a prompt is given; what is longer is no reason for an examination."""
_LONG_NUMBER = re.compile(r"\d{5}")
_LEAST_NAME = 3
"""Letters of a name that is taken out wherever it stands; shorter ones are words of their own."""
_MOST_NAMES = 50


def without_identifiers(text: str, context: StudyContext, longest: int = LONGEST_TEXT) -> str:
    """``text`` with ``___`` for whatever in it names the patient, another person, the study or a day.

    What is beyond ``longest`` characters is left out, at a word's end.
    """
    text = shortened(text, longest)
    folded, places = _letters(text)
    for known in _known(context):
        found = list(known.finditer(folded))
        if found:
            text = _cut(text, found, places)
            folded, places = _letters(text)
    text = re.sub(r"\S+", _without_address, text)
    text = _without_named(text)
    for form in FORMS:
        text = form.sub(REMOVED, text)
    text = re.sub(r"\w+", _without_number, text)
    return re.sub(rf"{REMOVED}(?:[\s,.;:-]*{REMOVED})+", REMOVED, text).strip()


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """At most ``longest`` characters, whole words: half a name could not be told from other words."""
    if len(text) <= longest:
        return text
    *whole, _ = re.split(r"\s+", text[: longest + 1])
    return " ".join(whole)


def _without_named(text: str) -> str:
    """Without names that a title, a relative or the word for a patient tells of, wherever else they stand, too."""
    named: set[str] = set()

    def titled(found: re.Match[str]) -> str:
        named.update(re.findall(r"[^\W\d_]+", found["names"]))
        return REMOVED

    def spoken_of(found: re.Match[str]) -> str:
        name = found["relative"] or found["patient"]
        named.update(re.findall(r"[^\W\d_]+", name))
        return found[0].removesuffix(name) + REMOVED

    text = SPOKEN_OF.sub(spoken_of, TITLED.sub(titled, text))
    again = sorted((one for one in named if len(one) >= _LEAST_NAME), key=len, reverse=True)[:_MOST_NAMES]
    if again:
        text = re.sub(rf"(?<![^\W\d_])(?:{'|'.join(again)})(?![^\W\d_])", REMOVED, text)
    return text


def _without_address(word: re.Match[str]) -> str:
    """An address of electronic mail, told by its sign between letters; each word is looked at once."""
    return REMOVED if "@" in word[0][1:-1] else word[0]


def _without_number(word: re.Match[str]) -> str:
    return REMOVED if _LONG_NUMBER.search(word[0]) else word[0]


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


def _letters(text: str) -> tuple[str, list[int]]:
    """``text`` folded, and the place in it that each folded letter comes from."""
    folded, places = list[str](), list[int]()
    for place, letter in enumerate(text):
        plain = letter.lower() if letter.isascii() else _folded(letter)
        folded.append(plain)
        places += [place] * len(plain)
    return "".join(folded), places


def _cut(text: str, found: Iterable[re.Match[str]], places: Sequence[int]) -> str:
    """``text`` without what was found in its folded form, letter by letter in the same place."""
    pieces, at = list[str](), 0
    for one in found:
        if one.end() == one.start() or places[one.start()] < at:
            continue
        pieces += [text[at : places[one.start()]], REMOVED]
        at = places[one.end() - 1] + 1
    return "".join([*pieces, text[at:]])


def _folded(text: str) -> str:
    """One case, no accents."""
    return "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(letter)
    )


def _is_han(text: str) -> bool:
    return any("\u3400" <= letter <= "\u9fff" for letter in text)
