"""What each sentence of a draft rests on: an image and region, or the text that it repeats.

A sentence of Findings rests on the region of what it states, else on the images that the model saw. A sentence of
Impression rests on what the finding that it repeats rests on, else on the findings text.
"""

from collections.abc import Iterable, Sequence

from models.families import SeenImage
from models.findings_text import read_findings, split_sentences
from pipeline.report import Finding, Region, Side, Support

FINDINGS, IMPRESSION = "findings", "impression"
MOST_IMAGES = 4
"""A sentence without a region names at most so many images: a series of slices by its first ones."""


def supports(
    findings_text: str, impression_text: str, findings: Sequence[Finding], images: Sequence[SeenImage]
) -> tuple[Support, ...]:
    """At least one Support for every sentence, in the order of the text; ``findings`` carry their regions."""
    found = [
        support
        for sentence in dict.fromkeys(split_sentences(findings_text))
        for support in _seen(
            FINDINGS, sentence, [one for one in findings if one.sentence == sentence], images
        )
    ]
    for sentence in dict.fromkeys(split_sentences(impression_text)):
        repeated = [one for claim in read_findings(sentence) for one in findings if _repeats(claim, one)]
        if repeated:
            found += _seen(IMPRESSION, sentence, repeated, images)
        else:
            found.append(Support(IMPRESSION, sentence, source=FINDINGS))
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
