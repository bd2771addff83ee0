"""Does the draft agree with itself: findings with impression, sides with sides, sides with regions."""

from collections.abc import Iterable, Iterator

from pipeline.checks.evidence import Evidence, Problem, failed, warned
from pipeline.checks.lexicon import ADVICE
from pipeline.checks.reading import Mention, says_all_normal, sentences, sides_named, sides_of_structures
from pipeline.checks.term import Term
from pipeline.checks.terms import LEXICON, RELATED
from pipeline.report import Finding, Side
from pipeline.study import TAKEN_AS_FRONTAL, StudyImage

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
        yield from _clash(found, concluded, f"{term.label}: stated in findings, denied in impression")
        yield from _clash(concluded, found, f"{term.label}: stated in impression, denied in findings")
        if any(m.present for m in concluded) and not found and not _supported(evidence, term):
            yield warned(f"{term.label}: in the impression, not in findings")
        yield from _details(term.label, found, concluded)
    yield from _called_normal(evidence.findings, evidence.draft.impression_text, "findings", "impression")
    yield from _called_normal(evidence.impression, evidence.draft.findings_text, "impression", "findings")


def laterality(evidence: Evidence) -> Iterator[Problem]:
    """Sides differ between findings and impression, or between a finding and its region on a frontal image.

    On a frontal image in standard display the patient's left is the image's right half (PS3.3 C.7.6.1.1.1,
    rows running towards the patient's left).
    """
    of_findings = list(_sides_of_findings(evidence))
    yield from of_findings
    if not of_findings:
        yield from _sides_of_words(evidence)
    for finding in evidence.draft.findings:
        image = evidence.image_of(finding.region) if finding.region is not None else None
        if image is not None:
            yield from _against_region(finding, image)


def _sides_of_findings(evidence: Evidence) -> Iterator[Problem]:
    for term in LEXICON:
        if not term.sided:
            continue
        stated = [m for m in _of(evidence.findings, term.key) if m.present]
        concluded = _sides(_of(evidence.impression, term.key))
        if not stated:
            yield from _sides_of_related(evidence, term, concluded)
            continue
        found = _sides(stated)
        if found and concluded - found:
            yield failed(f"{term.label}: the impression names another side than findings")
        elif found and concluded and found - concluded:
            yield warned(f"{term.label}: both sides in findings, one in the impression")
        elif not found and concluded:
            named = frozenset(side for m in stated for side in _expand(m.side))
            if named and not concluded & named:
                yield warned(f"{term.label}: the impression names another side than findings")


def _sides_of_related(evidence: Evidence, term: Term, concluded: frozenset[Side]) -> Iterator[Problem]:
    """Findings describe by another name what the impression calls by this one ("opacity" and "pneumonia")."""
    stated = [m for m in evidence.findings if m.present and m.term.key in RELATED.get(term.key, ())]
    found = _sides(stated)
    if found and concluded - found:
        named = sides_named(evidence.draft.findings_text)
        sure = not named & {*concluded - found, Side.BILATERAL}
        message = f"{term.label}: the impression names another side than what findings describe"
        yield failed(message) if sure else warned(message)


def _sides_of_words(evidence: Evidence) -> Iterator[Problem]:
    """Sides of what the lexicon does not know: of a paired structure, or of anything where findings name one side."""
    impression = " ".join(s for s in sentences(evidence.draft.impression_text) if not ADVICE.search(s))
    found = sides_of_structures(evidence.draft.findings_text)
    for name, concluded in sides_of_structures(impression).items():
        sides = frozenset(side for one in found.get(name, ()) for side in _expand(one))
        if sides and not concluded & sides and Side.BILATERAL not in concluded:
            yield warned(f"{name}: the impression names another side than findings")
    named = sides_named(evidence.draft.findings_text)
    if len(named) == 1 and named < _BOTH and sides_named(impression) & (_BOTH - named):
        yield warned("the impression names a side that findings name nothing on")


def _called_normal(section: tuple[Mention, ...], other: str, name: str, other_name: str) -> Iterator[Problem]:
    if says_all_normal(other):
        certain = [m for m in section if m.present and not m.doubtful]
        for label in sorted({m.term.label for m in certain if m.term.acute and not m.old}):
            yield failed(f"{label}: stated in {name}, yet the {other_name} calls the study normal")


def _supported(evidence: Evidence, term: Term) -> bool:
    text = evidence.draft.findings_text
    return term.concluded or (term.support is not None and term.support.search(text) is not None)


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
        yield from _clash(of_term, of_term, f"{term.label}: stated and denied in {name}")


def _clash(stating: Iterable[Mention], denying: Iterable[Mention], message: str) -> Iterator[Problem]:
    """A certain statement meets a certain denial of it; what is old may have been left out of the denial."""
    denials = [m for m in denying if not m.present and not m.doubtful]
    sure = [
        not denial.implied and not stated.old
        for stated in stating
        if stated.present and not stated.doubtful
        for denial in denials
        if _denies(denial, stated)
    ]
    if sure:
        yield failed(message) if any(sure) else warned(message)


def _denies(denial: Mention, stated: Mention) -> bool:
    """Of the same side or of none in particular, and not of a part, a size or an age that the statement leaves out."""
    if denial.recent and stated.old:
        return False
    if denial.zones and stated.zones and not denial.zones & stated.zones:
        return False
    if denial.sizes and not denial.sizes & stated.sizes:
        return False
    return denial.side in (None, Side.BILATERAL) or bool(_expand(denial.side) & _expand(stated.side))


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
    if image.view not in TAKEN_AS_FRONTAL:
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
