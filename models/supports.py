"""What each sentence of a draft rests on: an image and region, or the text that it repeats.

A sentence of Findings rests on the region of what it states, else on the images that the model saw. A sentence of
Impression rests on what the finding that it repeats rests on, else on the findings text. A sentence of comparison
rests on the earlier film too.
"""

import re
from collections.abc import Iterable, Sequence

from models.families import SeenImage
from models.findings_text import read_findings, split_sentences
from pipeline.report import Finding, Region, Side, Support
from pipeline.study import InstanceRef

FINDINGS, IMPRESSION = "findings", "impression"
MOST_IMAGES = 4
"""A sentence without a region names at most so many images: a series of slices by its first ones."""
_COMPARES = re.compile(
    r"\b(?:unchanged|new|newly|increased?|decreased?|larger|smaller|stable|compar\w+|interval|prior|previous(?:ly)?)\b"
    r"|较前|与前|新增|相仿",
    re.I,
)


def supports(
    findings_text: str,
    impression_text: str,
    findings: Sequence[Finding],
    images: Sequence[SeenImage],
    priors: Sequence[InstanceRef] = (),
    *,
    summarized: bool = False,
) -> tuple[Support, ...]:
    """At least one Support for every sentence, in the order of the text.

    ``findings`` carry their regions; ``priors`` are the films of an earlier study that the model was given.
    An Impression that was ``summarized`` rests on the findings text alone: no image was looked at for it.
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
    compared = dict.fromkeys((one.section, one.sentence) for one in found if _COMPARES.search(one.sentence))
    found += [Support(section, sentence, prior) for section, sentence in compared for prior in priors]
    return tuple(found)


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
