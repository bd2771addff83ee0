"""Can the images and the request support what the draft says."""
# ruff: noqa: RUF001  Chinese punctuation and typographic signs are what these patterns look for.

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from pipeline.checks.evidence import Evidence, Problem, failed, warned
from pipeline.checks.lexicon import ADVICE
from pipeline.checks.reading import MAX_CHARACTERS, mentions, sentences
from pipeline.checks.term import words
from pipeline.reference_leakage import gives_away, poses_as_report
from pipeline.report import Finding
from pipeline.study import LATERAL_VIEWS, TOLD_ON_THE_REPORT, LeftOutReason

CLASSIFIER_DENIES = 0.05
"""Below this probability the classifier disagrees with a finding stated as present."""
CLASSIFIER_ASSERTS = 0.95
"""Above this probability the classifier disagrees with a finding that is denied or not mentioned."""

_LENGTH = words(
    r"(?<!\d)(?P<first>\d{1,9}(?:[.,]\d{1,9})?)(?:\s{0,3}(?:x|×|-|–|to|"
    r"by)\s{0,3}(?P<second>\d{1,9}(?:[.,]\d{1,9})?))?\s{0,3}-?"
    r"(?P<unit>mm(?![a-z])|cm(?![a-z])|millimet(?:er|re)s?\b|centimet(?:er|re)s?\b|inch(?:es)?\b|毫米|"
    r"厘米|公分)"
)
_WORDED_LENGTH = words(
    r"\b(?:half|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|several|"
    r"few)[- ](?:an? |and a half )?"
    r"(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?|inch(?:es)?)\b",
    r"\bsub-?centimet(?:er|re)\b|\bfinger-?breadths?\b",
    "[一二两三四五六七八九十百半数几余点]{1,6}个?(?:毫米|厘米|公分|横指)|\\d横指",
)
_VOLUME = words(
    r"(?<!\d)\d{1,9}(?:[.,]\d{1,9})?\s{0,3}-?(?:ml(?![a-z])|cc(?![a-z])|millilit(?:er|re)s?\b|毫升|"
    r"lit(?:er|re)s?\b|(?-i:L\b)|升)",
    "[一二两三四五六七八九十百千]{1,5}(?:毫升|升)",
)
_HOUNSFIELD = words(r"(?<![\da-z])\d{1,5}\s?HU(?![a-z])", "hounsfield", "亨氏", "CT值")
_OTHER_MODALITY = words(
    r"(?-i:\b(?:CT|MRI?|PET)\b)",
    r"\b(?:ultrasound|sonograph\w+|mammogra\w+|tomograph\w+|T[12][- ]weighted)\b",
    "磁共振|超声",
)
_OTHER_PART = words(
    r"\b(?:knees?|hips?|femur|femoral|tibia\w*|ankles?|pelvi[cs]|wrists?|elbows?)\b",
    r"\b(?:skull|brain|intracranial|cerebral)\b",
    r"\b(?:uter(?:us|ine)|prostat\w+|lumbar spine|kidneys?|renal|bladder|pancrea\w+)\b",
    "膝|髋|股骨|骨盆|颅|脑|子宫|前列腺|肾|膀胱|胰",
)
_ABDOMEN = words(
    r"\babdom(?:en|inal) (?:radiograph|film|x-?ray|ct|view)",
    r"\bbowel (?:obstruction|gas pattern)",
    "腹部平片|肠梗阻",
)
_LATERAL_VIEW = words(
    r"\blateral (?:view|projection|radiograph|film|image|x-?ray)s?\b",
    r"\b(?:PA|AP|frontal) and lateral\b",
    r"\b(?:two|2|three|3) (?:views?|projections)\b",
    r"\bon (?:the )?lateral\b",
    "侧位",
)
_AGE = words(r"\b(?P<years>\d{1,3})[- ]?(?:year|yr)s?[- ]old\b", r"(?P<years_zh>\d{1,3})\s*岁")
_MALE = words(r"\b(?:gentleman|male|man)\b", "男性|男，")
_FEMALE = words(r"\b(?:lady|female|woman)\b", "女性|女，")


_SECTIONAL: Final = frozenset({"CT", "MR", "US", "PT", "MG"})
_CLASSES: Final = {
    "nodule": ("nodule", "mass"),
    "consolidation": ("consolidation", "pneumonia"),
    "central_venous_catheter": ("catheter",),
}
"""The lexicon's keys for a class of the classifier, where they are not called as the class."""

_LEFT_OUT_BY_CHOICE: Final = frozenset(LeftOutReason) - TOLD_ON_THE_REPORT


def measurement(evidence: Evidence) -> Iterator[Problem]:
    """A length is stated where no pixel spacing is known, or one longer than the image; a CT number, a volume.

    A length that stands in a text which the model was given is repeated, not measured.
    """
    text = unicodedata.normalize("NFKC", evidence.text[: 2 * MAX_CHARACTERS])
    projections = not {image.modality for image in evidence.image_set.images} & _SECTIONAL
    if projections and _HOUNSFIELD.search(text):
        yield failed("states CT numbers, the images are projections")
    if projections and _VOLUME.search(text):
        yield failed("states a volume, the images are projections")
    told = {length for given in evidence.given.values() for length in _lengths(given)}
    lengths = [length for length in _lengths(text) if length not in told]
    worded = _WORDED_LENGTH.search(text) is not None
    if not lengths and not worded:
        return
    sides = [
        max(image.original_rows * image.spacing_mm[0], image.original_columns * image.spacing_mm[1])
        for image in evidence.image_set.images
        if image.spacing_mm is not None
    ]
    if not sides:
        yield failed("states a length, the images carry no pixel spacing")
    elif max(lengths, default=0.0) > max(sides):
        yield failed("states a length beyond the size of the image")
    elif min(lengths, default=1.0) <= 0:
        yield warned("states a length of zero")


def classifier(evidence: Evidence) -> Iterator[Problem]:
    """The classifier, which does not read the text, is sure of the opposite."""
    stated: dict[str, list[Finding]] = {}
    for finding in evidence.draft.findings:
        stated.setdefault(finding.kind, []).append(finding)
    for kind, probability in sorted(evidence.draft.probabilities.items()):
        name = kind.replace("_", " ")
        present = any(finding.present for finding in stated.get(kind, ())) or _mentioned(evidence, kind)
        if present and probability < CLASSIFIER_DENIES:
            yield warned(f"{name}: stated, the classifier sees none")
        elif not present and probability > CLASSIFIER_ASSERTS:
            yield warned(f"{name}: the classifier sees it, the text does not state it")


def body_part(evidence: Evidence) -> Iterator[Problem]:
    """The draft speaks of another body part, another modality, or a view that the model was not shown."""
    plain = [sentence for sentence in evidence.sentences if not ADVICE.search(sentence)]
    modalities = {image.modality for image in evidence.image_set.images}
    if not modalities & _SECTIONAL and any(map(_OTHER_MODALITY.search, plain)):
        yield failed("describes another modality than the images are")
    if any(map(_OTHER_PART.search, plain)):
        yield failed("describes a body part outside the chest")
    elif any(map(_ABDOMEN.search, plain)):
        yield failed("describes the abdomen")
    lateral = any(image.view in LATERAL_VIEWS for image in evidence.image_set.images)
    if not lateral and any(map(_LATERAL_VIEW.search, plain)):
        yield failed("describes a lateral view, the model saw none")


def images(evidence: Evidence) -> Iterator[Problem]:
    """An image of the study could not be read, so the draft may not tell all that the study shows."""
    unread = sorted(
        {one.message for one in evidence.image_set.left_out if one.code not in _LEFT_OUT_BY_CHOICE}
    )
    for message in unread:
        yield warned(f"an image of the study was not used: {message}")


def supported(evidence: Evidence) -> Iterator[Problem]:
    """A sentence states a finding as present and rests on no image and on no text that the model was given.

    Read where the draft says of its sentences what they rest on at all; older drafts do not.
    """
    if not evidence.draft.supports:
        return
    resting = {
        (one.section, one.sentence.strip())
        for one in evidence.draft.supports
        if one.image is not None or one.source
    }
    sections = (
        ("findings", evidence.draft.findings_text),
        ("impression", evidence.draft.impression_text),
    )
    for section, text in sections:
        for sentence in sentences(text):
            stated = [one for one in mentions(sentence) if one.present and not one.doubtful]
            told = any(part == section and sentence in whole for part, whole in resting)
            if stated and not told:
                yield warned(
                    f"{stated[0].term.label}: stated in {section}, resting on no image or given text"
                )


def leak(evidence: Evidence) -> Iterator[Problem]:
    """The model was given what it had to write: a report of this study stands in its prompt."""
    for name, text in evidence.given.items():
        words_of = name.replace("_", " ")
        if gives_away(name, text, evidence.unseen):
            yield failed(f"the model was given a report of this study as its {words_of}")
        elif poses_as_report(name, text):
            yield warned(f"the {words_of} that the model was given reads like a report")


def region(evidence: Evidence) -> Iterator[Problem]:
    """A region lies outside its image, or on an image the model never saw."""
    for finding in evidence.draft.findings:
        box = finding.region
        if box is None:
            continue
        image = evidence.image_of(box)
        if image is None:
            yield failed(f"{finding.kind.replace('_', ' ')}: its region is on an image the model did not see")
        elif not (
            0 <= box.x0 < box.x1 <= image.original_columns and 0 <= box.y0 < box.y1 <= image.original_rows
        ):
            yield failed(f"{finding.kind.replace('_', ' ')}: its region lies outside the image")


def demographics(evidence: Evidence) -> Iterator[Problem]:
    """The draft states an age or a sex, which it cannot read from pixels, against the study's own header."""
    age = _AGE.search(evidence.text)
    if age is not None:
        born, started = evidence.context.patient.birth_date, evidence.context.started
        years = int(age["years"] or age["years_zh"])
        known = None if born is None or started is None else (started.date() - born).days / 365.25
        if known is None:
            yield warned("states an age that the study does not carry")
        elif not known - 2 < years < known + 1:
            yield failed("states another age than the study carries")
    male, female = _MALE.search(evidence.text), _FEMALE.search(evidence.text)
    sex = evidence.context.patient.sex.upper()
    if (male and sex == "F") or (female and sex == "M"):
        yield failed("states another sex than the study carries")
    elif (male or female) and sex not in ("M", "F"):
        yield warned("states a sex that the study does not carry")


def _mentioned(evidence: Evidence, kind: str) -> bool:
    """True where the checks' own reading finds ``kind`` stated, in words that the draft's parser does not know."""
    keys = _CLASSES.get(kind, (kind,))
    return any(one.present and not one.doubtful and one.term.key in keys for one in evidence.findings)


def _lengths(text: str) -> list[float]:
    """Lengths in millimetres, of "3 x 2 cm" the greater."""
    return [_millimetres(match) for match in _LENGTH.finditer(text)]


def _millimetres(match: re.Match[str]) -> float:
    unit = match["unit"].lower()
    factor = 1.0 if unit.startswith(("mm", "milli", "毫")) else 25.4 if unit.startswith("inch") else 10.0
    numbers = [float(number.replace(",", ".")) for number in (match["first"], match["second"]) if number]
    return round(factor * max(numbers), 3)
