"""What each sentence of a draft rests on: an image and region, or the text that it repeats.

A sentence of Findings rests on the region of what it states, else on the images that the model saw. A sentence of
Impression rests on what the finding that it repeats rests on, else on the findings text. A sentence of comparison
rests on the earlier film and the earlier report too, and one that repeats words or a length of a text that the model
was given rests on that text too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from models.drafting.findings_text import read_findings, split_sentences
from models.family import SeenImage
from pipeline.reference_leakage import EARLIER, shared_run
from pipeline.report import Finding, Region, Side, Support
from pipeline.study import InstanceRef

FINDINGS, IMPRESSION = "findings", "impression"
MOST_IMAGES = 4
"""A sentence without a region names at most so many images: a series of slices by its first ones."""
REPEATED = 6.0
"""Words in a row that a sentence shares with a given text when it repeats it; a Chinese character counts half."""
_NOTHING: Mapping[str, str] = MappingProxyType({})
_COMPARES = re.compile(
    r"\b(?:unchanged|new|newly|increas(?:ed?|ing)|decreas(?:ed?|ing)|larger|smaller|stable|compar\w+|interval|prior"
    r"|previous(?:ly)?|earlier|again|still|persist\w*|improv\w+|worse\w*|resolv\w+|resolution|no longer|since)\b"
    r"|[较与同如]前|较[上旧]|[前旧]片|对比|复查|新[增发出]|相仿|仍|吸收|好转|进展|变化|减少|缩小",
    re.I,
)
_LENGTH = re.compile(r"(?<![\d.])\d+(?:\.\d+)?\s?(?:mm|cm|毫米|厘米)", re.I)


def supports(
    findings_text: str,
    impression_text: str,
    findings: Sequence[Finding],
    images: Sequence[SeenImage],
    priors: Sequence[InstanceRef] = (),
    *,
    summarized: bool = False,
    given: Mapping[str, str] = _NOTHING,
) -> tuple[Support, ...]:
    """At least one Support for every sentence, in the order of the text.

    ``findings`` carry their regions; ``priors`` are the films of an earlier study that the model was given.
    An Impression that was ``summarized`` rests on the findings text alone: no image was looked at for it. ``given`` are
    the texts that the model was told beside the images, by name.
    """
    found = [
        support
        for sentence in dict.fromkeys(split_sentences(findings_text))
        for support in _seen(
            FINDINGS, sentence, [one for one in findings if one.sentence == sentence], images
        )
    ]
    for sentence in dict.fromkeys(split_sentences(impression_text)):
        repeated = [one for claim in read_findings(sentence) for one in findings if _repeats(claim, one)]
        if repeated and not summarized:
            found += _seen(IMPRESSION, sentence, repeated, images)
        else:
            found.append(Support(IMPRESSION, sentence, source=FINDINGS))
    seen = dict.fromkeys(
        (one.section, one.sentence) for one in found if not (summarized and one.section == IMPRESSION)
    )
    compared = [one for one in seen if _COMPARES.search(one[1])]
    found += [Support(section, sentence, prior) for section, sentence in compared for prior in priors]
    for section, sentence in seen:
        for name in _told(sentence, given, compares=(section, sentence) in compared):
            found.append(Support(section, sentence, source=name))
    return tuple(found)


def _told(sentence: str, given: Mapping[str, str], *, compares: bool) -> Iterator[str]:
    """The names of the ``given`` texts that ``sentence`` repeats or compares with."""
    lengths = _lengths(sentence)
    for name, text in given.items():
        repeats = shared_run(text, sentence) >= REPEATED or lengths & _lengths(text)
        if text and (repeats or (compares and name == EARLIER)):
            yield name


def _lengths(text: str) -> set[str]:
    return {re.sub(r"\s", "", one.lower()) for one in _LENGTH.findall(text)}


def _seen(
    section: str, sentence: str, stated: Iterable[Finding], images: Sequence[SeenImage]
) -> list[Support]:
    regions: dict[Region, None] = {
        one.region: None for one in stated if one.present and one.region is not None
    }
    if regions:
        return [Support(section, sentence, region.ref, region) for region in regions]
    refs = dict.fromkeys(image.ref for image in images)
    return [Support(section, sentence, ref) for ref in list(refs)[:MOST_IMAGES]]


def _repeats(claim: Finding, finding: Finding) -> bool:
    same = (claim.kind, claim.present) == (finding.kind, finding.present)
    sides = {claim.side, finding.side}
    return same and (len(sides) == 1 or None in sides or Side.BILATERAL in sides)
