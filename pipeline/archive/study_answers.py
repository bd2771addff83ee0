"""What study-level and image-level answers have in common, whichever protocol brought them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from pipeline.study import AnnouncedInstance, FoundStudy, InstanceRef, StudyQuery, digest_lines

_STUDY_DATE = 0x00080020
_ACCESSION_NUMBER = 0x00080050

_STUDY_TIME = 0x00080030
PATIENT_ID, _ISSUER, PATIENT_NAME = 0x00100020, 0x00100021, 0x00100010
CHARACTER_SET = 0x00080005
DIGEST_TAGS = (
    PATIENT_ID,
    _ISSUER,
    PATIENT_NAME,
    0x00100030,  # Patient's Birth Date
    0x00100040,  # Patient's Sex
    _ACCESSION_NUMBER,
    _STUDY_DATE,
    _STUDY_TIME,
)

_DATE = re.compile(r"([0-9]{4})([./-]?)([0-9]{2})\2([0-9]{2})(?:$|[ T0-9])", re.ASCII)

EARLIEST_YEAR = 1800
_SEVERAL = re.compile(r"[\\,;/\s]+")
"""What stands between modalities that an archive writes into one value."""
_COUNT = re.compile("[0-9]{1,9}")
"""A count beyond it is nonsense, and no database takes it."""

_CODECS = {
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 192": "utf_8",
    "UTF-8": "utf_8",
    "GB2312": "gbk",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 IR 13": "iso2022_jp_ext",
    "ISO 2022 IR 87": "iso2022_jp_ext",
    "ISO 2022 IR 159": "iso2022_jp_ext",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
}

_WITH_ESCAPES = ("iso2022_jp_ext", "shift_jis")
"""Codecs that know the escape sequences by which a text calls a character set (PS3.3 C.12.1.1.2)."""
_ESCAPES = re.compile(rb"\x1b[\x24\x28-\x2f]+[\x30-\x7e]")


def found_study(
    study_instance_uid: str, values: Mapping[int, str], modalities: tuple[str, ...], count: str
) -> FoundStudy:
    """The value for one study-level answer; ``values`` are the announced texts of ``DIGEST_TAGS``."""
    announced_text = "\x1f".join(_as_meant(tag, values.get(tag, "")) for tag in DIGEST_TAGS)
    return FoundStudy(
        study_instance_uid=study_instance_uid,
        study_date=parse_date(values.get(_STUDY_DATE, "")),
        modalities=tuple(
            sorted({one for several in modalities for one in _SEVERAL.split(_plain(several)) if one})
        ),
        accession_number=_plain(values.get(_ACCESSION_NUMBER, "")),
        announced_instances=int(count) if _COUNT.fullmatch(count) else None,
        demographics_digest=hashlib.sha256(announced_text.encode("utf-8", "surrogateescape")).hexdigest(),
    )


def one_study(rows: Sequence[tuple[FoundStudy, Mapping[int, str]]]) -> FoundStudy:
    """The study of all rows that name it, with the announced texts of each.

    An archive lists a study once for each patient it has it under (Orthanc, after a corrected Patient ID was sent).
    """
    studies = [study for study, _ in rows]
    numbers = {number for _, values in rows if (number := _folded(values, PATIENT_ID))}
    issuers = {issuer for _, values in rows if (issuer := _folded(values, _ISSUER))}
    patients = max(len(numbers), len(issuers) if len(numbers) == 1 else 1, 1)
    if patients == 1:
        return studies[-1]
    counts = [study.announced_instances for study in studies if study.announced_instances is not None]
    return replace(
        studies[-1],
        modalities=tuple(sorted({one for study in studies for one in study.modalities})),
        announced_instances=sum(counts) if counts else None,
        demographics_digest=digest_lines({study.demographics_digest for study in studies}),
        patients=patients,
    )


def _folded(values: Mapping[int, str], tag: int) -> str:
    return values.get(tag, "").strip(" \0").casefold()


def _as_meant(tag: int, text: str) -> str:
    """A text whose like means the same (PS3.5 6.2): padding, empty name components, a fraction of no time."""
    text = text.strip(" \0")
    if tag == PATIENT_NAME:
        return "=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("=")
    if tag == _STUDY_TIME and "." in text:
        return text.rstrip("0").rstrip(".")
    return text


def _plain(text: str) -> str:
    """``text`` without control characters and halves of letters, which no database takes."""
    return "".join(letter for letter in text if letter.isprintable()).strip()


def announced(listed: Mapping[InstanceRef, str]) -> tuple[AnnouncedInstance, ...]:
    """Image-level answers, each SOP Instance UID once, sorted.

    The values of ``listed`` are SOP Class UIDs.
    """
    by_uid = {ref.sop_instance_uid: AnnouncedInstance(ref, sop_class) for ref, sop_class in listed.items()}
    return tuple(by_uid[uid] for uid in sorted(by_uid))


def decode_texts(values: Mapping[int, bytes]) -> dict[int, str]:
    """Raw values of ``DIGEST_TAGS`` as text, by the character set among them (PS3.3 C.12.1.1.2).

    Bytes that do not fit become replacement characters: these texts are compared and matched, not shown.
    """
    terms = [_as_term(one) for one in values.get(CHARACTER_SET, b"").decode("ascii", "replace").split("\\")]
    codec = next((_CODECS[term] for term in reversed(terms) if term in _CODECS), "latin-1")
    return {tag: _decoded(values[tag], codec).strip(" \0") for tag in DIGEST_TAGS if tag in values}


def _as_term(written: str) -> str:
    """A defined term of PS3.3 C.12.1.1.2; ISO-IR 100 and ISO 2022 IR 100 are the set of ISO_IR 100."""
    term = written.strip(" \0").upper().replace("ISO-IR", "ISO_IR")
    plain = term.replace("ISO 2022 IR", "ISO_IR")
    return term if term in _CODECS or plain not in _CODECS else plain


def _decoded(value: bytes, codec: str) -> str:
    if codec not in _WITH_ESCAPES:
        value = _ESCAPES.sub(b"", value)
    return value.decode(codec, "replace")


def is_wanted(study: FoundStudy, query: StudyQuery) -> bool:
    """False where the study itself says that the archive did not filter as the query asks."""
    if query.undated and study.study_date is not None:
        return False
    return not query.modalities or not study.modalities or bool(set(query.modalities) & set(study.modalities))


def parse_date(text: str) -> date | None:
    """A DA value (PS3.5 section 6.2), also with dots, dashes or slashes, or with a time behind it; None where it is
    no date, or one before there was any film (year 1 stands where a system has none).
    """
    found = _DATE.match(text.strip(" \0"))
    if found is None or int(found[1]) < EARLIEST_YEAR:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None
