"""Does a draft describe what a segmentation did not find: an organ that is not in the images is not described.

Only beside another model's draft: a segmenter's own says itself what it did not find.
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.checks.reading import sentences
from pipeline.report import CheckOutcome, DraftReport, Language, Segment, Side, Verdict

CHECK = "segmented"
_SAID_ABSENT = re.compile(
    r"\b(?:absent|absence of|not (?:seen|visuali[sz]ed|included|imaged|identified)|removed|resected|surgically|"
    r"status post|post-?operative|\w+ectomy|outside the field)\b|未见|缺如|切除|术后|未显示|未包括",
    re.IGNORECASE,
)
_EITHER = re.compile(r"\b(?:both|bilateral|left and right|right and left)\b", re.IGNORECASE)


def segmented(draft: DraftReport) -> tuple[CheckOutcome, ...]:
    """One outcome where another model segmented the images; none where nobody did."""
    missing: list[Segment] = []
    asked = False
    for answer in draft.answers:
        if answer.segments and answer.model_id:
            asked = True
            missing += [one for one in answer.segments if not one.voxels]
    if not asked:
        return ()
    text = sentences(draft.findings_text) + sentences(draft.impression_text)
    described = dict.fromkeys(
        one.name for one in missing if any(_described(text, one, missing, draft.language))
    )
    if not described:
        return (CheckOutcome(CHECK, Verdict.PASSED),)
    names = ", ".join(described)
    message = f"the draft describes {names}, of which the segmentation found nothing in the images"
    return (CheckOutcome(CHECK, Verdict.WARNED, message),)


def _described(
    text: Sequence[str], segment: Segment, missing: Sequence[Segment], language: Language
) -> Iterator[bool]:
    base = _base(segment, language)
    neither = any(_base(one, language) == base and one.side is not segment.side for one in missing)
    for sentence in text:
        if _SAID_ABSENT.search(sentence):
            continue
        if language is Language.CHINESE:
            yield (base if neither or segment.side is None else segment.name) in sentence
            continue
        noun = rf"\b{re.escape(base)}"
        alone = segment.side is None or neither
        if alone:
            yield re.search(rf"{noun}(?:e?s)?\b", sentence, re.IGNORECASE) is not None
        else:
            sided = rf"\b{segment.side}\s+{re.escape(base)}\b"
            pair = re.search(rf"{noun}e?s\b", sentence, re.IGNORECASE)
            yield bool(
                re.search(sided, sentence, re.IGNORECASE)
                or pair
                or (_EITHER.search(sentence) and re.search(noun, sentence))
            )


def _base(segment: Segment, language: Language) -> str:
    """What the structure is called without its side."""
    if segment.side is None:
        return segment.name
    if language is Language.CHINESE:
        return segment.name.removeprefix("左" if segment.side is Side.LEFT else "右")
    return segment.name.removeprefix(f"{segment.side} ")
