"""Where a stated finding is: by the family's own detector, or by the places that stand in its text."""

from collections.abc import Sequence
from dataclasses import replace

from models.family import SeenFinding, SeenImage
from pipeline.report import Finding, Place, Region, Side


def support(finding: Finding, seen: Sequence[SeenFinding]) -> Finding:
    """``finding`` with the detector's probability and region for that kind and side; a stated absence has neither.

    A bilateral finding takes the box around both sides and the lesser probability.
    """
    if not finding.present:
        return finding
    same = [one for one in seen if one.kind == finding.kind]
    if finding.side in (Side.LEFT, Side.RIGHT):
        same = [one for one in same if one.side in (finding.side, None)]
    elif finding.side is None:
        same = sorted(same, key=lambda one: one.probability)[-1:]
    if not same:
        return finding
    regions = [one.region for one in same if one.region is not None]
    return replace(finding, region=_around(regions), confidence=min(one.probability for one in same))


def placed(finding: Finding, places: Sequence[Place], images: Sequence[SeenImage]) -> Finding:
    """``finding`` with the region of the places whose words are its sentence, as grounded reports tell them.

    A finding that has a region or is denied stays as it is. A place whose name is of the other side is another one's;
    one that lies on no image the model saw, or not inside it, is left out.
    """
    if not finding.present or finding.region is not None:
        return finding
    other = {Side.LEFT: "right", Side.RIGHT: "left"}.get(finding.side) if finding.side else None
    sizes = {(image.ref, image.frame): (image.columns, image.rows) for image in images}
    regions = [
        place.region
        for place in places
        if place.region is not None
        and (said := (place.text or place.name).strip(" ."))
        and (said in finding.sentence or finding.sentence.strip(" .") in said)
        and (other is None or other not in place.name.lower().split())
        and _inside(place.region, sizes.get((place.region.ref, place.region.frame), (0, 0)))
    ]
    return replace(finding, region=_around(regions)) if regions else finding


def _inside(region: Region, size: tuple[int, int]) -> bool:
    columns, rows = size
    return 0 <= region.x0 < region.x1 <= columns and 0 <= region.y0 < region.y1 <= rows


def _around(regions: Sequence[Region]) -> Region | None:
    """The smallest box around boxes of one image."""
    if not regions:
        return None
    first = regions[0]
    together = [region for region in regions if (region.ref, region.frame) == (first.ref, first.frame)]
    return Region(
        first.ref,
        first.frame,
        min(region.x0 for region in together),
        min(region.y0 for region in together),
        max(region.x1 for region in together),
        max(region.y1 for region in together),
    )
