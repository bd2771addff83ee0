"""Does the draft agree with itself: findings with impression, sides with sides, sides with regions."""

from collections.abc import Iterable, Iterator

from pipeline.checks.evidence import Evidence, Problem, failed, warned
from pipeline.checks.lexicon import LEXICON
from pipeline.checks.reading import Mention, says_all_normal
from pipeline.report import Finding, Side
from pipeline.study import StudyImage

MIDLINE_MARGIN = 0.05
"""Share of the image width around its middle where a box belongs to neither side (rotation, decentring)."""

_BOTH = frozenset({Side.LEFT, Side.RIGHT})


def contradiction(evidence: Evidence) -> Iterator[Problem]:
    """The same finding is stated and denied, or the impression names one that findings lack."""
    yield from _within(evidence.findings, "findings")
    yield from _within(evidence.impression, "impression")
    for term in LEXICON:
        found = _of(evidence.findings, term.key)
        concluded = _of(evidence.impression, term.key)
        if _clash(found, concluded):
            yield failed(f"{term.label}: stated in findings, denied in impression")
        if _clash(concluded, found):
            yield failed(f"{term.label}: stated in impression, denied in findings")
        supported = term.support is not None and term.support.search(evidence.draft.findings_text) is not None
        if any(m.present for m in concluded) and not found and not supported:
            yield warned(f"{term.label}: in the impression, not in findings")
        yield from _details(term.label, found, concluded)
    if says_all_normal(evidence.draft.impression_text):
        certain = [m for m in evidence.findings if m.present and not m.doubtful]
        acute = {m.term.label for m in certain if m.term.acute and not m.old}
        for label in sorted(acute):
            yield failed(f"{label}: stated in findings, yet the impression calls the study normal")


def laterality(evidence: Evidence) -> Iterator[Problem]:
    """Sides differ between findings and impression, or between a finding and its region on a frontal image.

    On a frontal image in standard display the patient's left is the image's right half (PS3.3 C.7.6.1.1.1,
    rows running towards the patient's left).
    """
    for term in LEXICON:
        if not term.sided:
            continue
        found = _sides(_of(evidence.findings, term.key))
        concluded = _sides(_of(evidence.impression, term.key))
        if not found or not concluded:
            continue
        if concluded - found:
            yield failed(f"{term.label}: the impression names another side than findings")
        elif found - concluded:
            yield warned(f"{term.label}: both sides in findings, one in the impression")
    for finding in evidence.draft.findings:
        image = evidence.image_of(finding.region) if finding.region is not None else None
        if image is not None:
            yield from _against_region(finding, image)


def _details(label: str, found: Iterable[Mention], concluded: Iterable[Mention]) -> Iterator[Problem]:
    """Another part of the lung or another size in the impression than any that findings name."""
    stated = [mention for mention in found if mention.present]
    repeated = [mention for mention in concluded if mention.present]
    if _differ([m.zones for m in stated], [m.zones for m in repeated]):
        yield warned(f"{label}: the impression names another part of the lung than findings")
    if _differ([m.sizes for m in stated], [m.sizes for m in repeated]):
        yield warned(f"{label}: the impression gives another size than findings")


def _differ(stated: list[frozenset[str]], repeated: list[frozenset[str]]) -> bool:
    """True where every statement is worded and some repetition shares none of those words."""
    if not stated or not all(stated):
        return False
    known = frozenset(word for words in stated for word in words)
    return any(words and not words & known for words in repeated)


def _within(section: tuple[Mention, ...], name: str) -> Iterator[Problem]:
    for term in LEXICON:
        of_term = _of(section, term.key)
        if _clash(of_term, of_term):
            yield failed(f"{term.label}: stated and denied in {name}")


def _clash(stating: Iterable[Mention], denying: Iterable[Mention]) -> bool:
    """True where a certain statement meets a certain denial of the same side, or of no side in particular."""
    denials = [m for m in denying if not m.present and not m.doubtful]
    return any(
        denial.side is None or (_expand(denial.side) & _expand(stated.side))
        for stated in stating
        if stated.present and not stated.doubtful
        for denial in denials
    )


def _of(section: tuple[Mention, ...], key: str) -> list[Mention]:
    return [mention for mention in section if mention.term.key == key]


def _sides(section: Iterable[Mention]) -> frozenset[Side]:
    """Sides named for a stated finding; empty where a statement names none, since it may mean any."""
    stated = [m for m in section if m.present]
    if any(m.side is None for m in stated):
        return frozenset()
    return frozenset(side for m in stated for side in _expand(m.side))


def _expand(side: Side | None) -> frozenset[Side]:
    if side is None:
        return frozenset()
    return _BOTH if side is Side.BILATERAL else frozenset({side})


def _against_region(finding: Finding, image: StudyImage) -> Iterator[Problem]:
    if finding.region is None or finding.side not in _BOTH or not finding.present:
        return
    if image.view not in ("PA", "AP", ""):
        return
    middle = image.original_columns / 2
    margin = image.original_columns * MIDLINE_MARGIN
    name = finding.kind.replace("_", " ")
    centre = (finding.region.x0 + finding.region.x1) / 2
    if finding.side is Side.LEFT:
        wholly_other, mostly_other = finding.region.x1 < middle - margin, centre < middle - margin
    else:
        wholly_other, mostly_other = finding.region.x0 > middle + margin, centre > middle + margin
    if wholly_other and image.view:
        yield failed(f"{name}: the text says {finding.side.value}, the region lies on the other side")
    elif wholly_other or mostly_other:
        yield warned(f"{name}: the text says {finding.side.value}, the region lies mostly on the other side")
