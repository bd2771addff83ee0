"""The forms of identifiers in free text, in the languages of requests: dates, numbers, addresses, names behind a word.

Every pattern takes time that grows with the text alone: no repetition without a bound stands beside another that may
take the same letters. ``tests/unit/test_patterns.py`` times each at a mebibyte.
"""

import re
from typing import Final

_UPPER = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0141\u0150\u0152\u015a\u0160\u017b\u017d"
_NAME = rf"(?-i:[{_UPPER}])[\w'\u2019-]{{1,40}}"
_PARTICLE = r"(?-i:de|da|do|dos|del|della|di|van|von|zu|le|la|ten|ter|der|den|O'|Mc)"
_NAMES = rf"(?:{_PARTICLE}\s{{1,3}}){{0,3}}{_NAME}(?:\s{{1,3}}(?:{_PARTICLE}\s{{1,3}}){{0,3}}{_NAME}){{0,3}}"
"""One name or several, each with a capital letter."""

_MONTHS = (
    r"(?:jan(?:uary|uar|vier|uari)?|enero|gennaio|janeiro|j\u00e4n(?:ner)?"
    r"|feb(?:ruary|ruar|ruari|braio|rero)?|f\u00e9v(?:rier)?|fevereiro|fev"
    r"|mar(?:ch|s|zo|\u00e7o|t|et)?|m\u00e4rz|maart|m\u00e4r|mrt"
    r"|apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|ma[iy]|mayo|maio|maggio|mei"
    r"|jun(?:e|i|io|ho)?|juin|giugno|jul(?:y|i|io|ho)?|juil(?:let)?|luglio"
    r"|aug(?:ust|ustus)?|ao\u00fbt|agosto|sep(?:t|tember|tembre|tiembre)?|setembro|settembre"
    r"|o[ck]t(?:ober|obre)?|octubre|ottobre|outubro|nov(?:ember|embre|iembre|embro)?"
    r"|de[cz](?:ember|embre|embro)?|d\u00e9c(?:embre)?|dic(?:iembre|embre)?)\b\.?"
)
_GAP = r"(?:\s{1,4}|-|\.\s{0,2}|/)(?:(?:of|de|del|di)\s{1,4})?"
_DAY = r"\b\d{1,2}(?:st|nd|rd|th|er|\u00ba)?"

_DATE = (
    rf"(?:\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}"
    rf"|{_DAY}{_GAP}{_MONTHS}(?:{_GAP}\d{{2,4}}\b)?"
    rf"|\b{_MONTHS}\s{{1,4}}\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s{{1,4}}\d{{4}})?)"
)
_TITLE = (
    r"(?-i:Mr|Mrs|Ms|Miss|Mister|Doctor|Professor|DR|MR|MRS|PROF|Dres|Herrn?|Frau|Prof|Dr|Dra|Dott(?:\.ssa|oressa)?"
    r"|Mme|Mlle|Madame|Monsieur|M(?=\.)|Sr|Sra|Srta|Se\u00f1or(?:a|ita)?|Don|Do\u00f1a|Sig(?:\.ra|nora?)?"
    r"|Senhora?|Mevr(?:ouw)?|mevr(?:ouw)?|Dhr|dhr|Meneer|meneer|dr|prof|Praxis)"
)
_RELATIVE = (
    r"(?:daughter|son|wife|husband|mother|father|sister|brother|fille|fils|\u00e9pouse|mari|hij[oa]|espos[oa]"
    r"|figli[oa]|moglie|marito|filh[oa]|dochter|zoon|echtgenote)"
)
_PATIENT = r"(?:pt|pat|patient(?:in|e)?|paciente|paziente|pati\u00ebnt)\.?"
_STREET = (
    r"(?:street|st\.|road|rd\.|avenue|ave\.|lane|drive|boulevard|blvd\.?|court|crescent|terrace|square|way)"
)

TITLED: Final = re.compile(
    rf"\b{_TITLE}\b\.?(?:\s{{0,3}}(?:med|dent|rer|nat|Dr)\.){{0,3}}\s{{1,4}}(?P<names>{_NAMES})", re.I
)
"""A name behind a title; what it names is taken out wherever else it stands in the text."""
SPOKEN_OF: Final = re.compile(
    rf"\b(?:{_RELATIVE}\s{{1,3}}(?P<relative>{_NAME})|{_PATIENT}\s{{1,3}}(?P<patient>{_NAME}\s{{1,3}}{_NAME}))\b",
    re.I,
)
"""A first name behind a relative, or two names behind the word for a patient."""
FORMS: Final = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"(?:https?://|www\.)\S+",
        r"\bdr\b\.?\s{1,4}[\w'\u2019-]{3,40}",
        r"[0-2](?:\.\d+){4,}",
        r"\b\d{3}-\d{2}-\d{4}\b",
        _DATE,
        rf"\b{_MONTHS}\s{{1,4}}(?:de\s{{1,3}})?(?:19|20)\d\d\b",
        r"\d{2,4}\s?\u5e74(?:\s?\d{1,2}\s?\u6708)?(?:\s?\d{1,2}\s?[\u65e5\u53f7])?|\d{1,2}\s?\u6708\s?\d{1,2}\s?[\u65e5\u53f7]",
        r"\b(?:on|since|until|dated|am|vom|seit|desde|op|sinds)\s{1,8}\d{1,2}[/.]\d{1,2}\b\.?(?!\s?\d)",
        r"\b(?:mrn|dob|id|tel|phone|name|acc(?:ession)?|pid|ipp|nip|nhs|nom|nombre|nome|naam|telefon|t\u00e9l)"
        r"\s{0,8}(?:no|nr|number)?\s{0,8}[.:#]{1,8}\s{0,8}\S+",
        r"\b(?:mrn|accession|ipp)\s{1,4}[\w/-]{0,20}\d[\w/-]{0,20}",
        r"\(?\+?\d[\d\s()-]{6,40}\d",
        r"\b(?:9\d|1[0-2]\d)\s?-?\s?(?:years?|yrs?|y/?o|j\u00e4hrige?[rnsm]?|jahre|ans|a\u00f1os|anni|anos|jaar)\b"
        r"|(?:9\d|1[0-2]\d)\s?\u5c81"
        r"|\b(?:aged?|alter|\u00e2ge|edad|et\u00e0|idade|leeftijd)\s{0,3}:?\s{0,3}(?:9\d|1[0-2]\d)\b",
        rf"\b\d{{1,5}}[a-z]?,?\s{{1,3}}(?:{_NAME}\s{{1,3}}){{1,3}}{_STREET}(?!\w)",
        r"\b[\w\u00df-]{2,40}(?:stra(?:\u00dfe|sse)|str\.|gasse|weg|platz|straat|laan|plein)\s{1,3}\d{1,4}\s?[a-z]?\b",
        rf"\b\d{{1,4}}(?:\s?bis)?,?\s{{1,3}}(?:rue|avenue|boulevard|chemin|all\u00e9e)\s{{1,3}}[\w'\u2019-]{{1,30}}(?:\s{{1,3}}(?:de|la|du|des|{_NAME})){{0,5}}",
        rf"\b(?:calle|avenida|plaza|via|viale|piazza|corso|rua|travessa)\s{{1,3}}(?:(?:de|del|da|do|dei|della|la|dos)\s{{1,3}}){{0,2}}{_NAME}(?:\s{{1,3}}{_NAME}){{0,3}},?\s{{1,3}}(?:n\u00ba?\s?)?\d{{1,5}}[a-z]?\b",
        rf"\b(?:[A-Z]{{1,2}}-)?\d{{5}}\s{{1,3}}{_NAME}",
        r"\b(?-i:[A-Z]{1,2}\d[A-Z\d]?\s?\d(?!MM|CM|ML|MG|KG|HR|YR|YO|WK|TH)[A-Z]{2})\b",
        rf"\b(?:{_NAME}\s{{1,3}}){{1,3}}(?-i:Hospital|Clinic|Medical\s{{1,3}}Cent(?:er|re)|Infirmary|Klinikum|Krankenhaus)\b",
        r"(?:\u60a3\u8005|\u59d3\u540d|\u75c5\u4eba)\s{0,3}[:\uff1a]\s{0,3}[\u4e00-\u9fff]{2,4}",
        r"(?:\u4f4f\u5740|\u5730\u5740)\s{0,3}[:\uff1a]?\s{0,3}[\u4e00-\u9fff\w]{3,40}",
        r"[\u4e00-\u9fff]{1,3}(?:\u533b\u751f|\u533b\u5e08|\u5927\u592b|\u5148\u751f|\u5973\u58eb|\u4e3b\u4efb)",
    )
)
"""Dates, numbers, ages above 89, addresses, hospitals; the last ones of Chinese."""
