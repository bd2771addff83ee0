"""Count how well drafted reports state what is on their films. Pure Python and numpy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.training.label_reader import StatedFinding, UnreadableReportError, read_report
from models.vocabulary.english import KINDS, FindingFact, merge_sides


@dataclass(frozen=True, slots=True)
class KindScore:
    """Counts of one finding over all studies, and the F1 they give."""

    hit: int
    false: int
    missed: int
    f1: float


@dataclass(frozen=True, slots=True)
class FindingScore:
    """How a set of drafts did.

    ``side_of_found``: share of found, sided findings with every side right; ``side_of_all``: the same over all present.
    ``normal_as_normal``: share of normal films without any stated finding; ``readable``: share of drafts that parse.
    ``zone_of_found``, ``severity_of_found``, ``change_of_found`` and ``depth_of_found``: share right of those found
    that have one (and, for the severity, whose sentence can state one); ``compared`` is the share of drafts that state
    any change.
    """

    studies: int
    macro_f1: float
    side_of_found: float
    side_of_all: float
    normal_as_normal: float
    readable: float
    zone_of_found: float
    severity_of_found: float
    change_of_found: float
    depth_of_found: float
    compared: float
    kinds: dict[str, KindScore]

    @property
    def least_f1(self) -> float:
        """The F1 of the finding that does worst."""
        return min(kind.f1 for kind in self.kinds.values())

    def to_dict(self) -> dict[str, object]:
        """As JSON takes it."""
        return asdict(self)


def stated_present(text: str) -> dict[str, StatedFinding] | None:
    """Findings a draft states as present, by kind, or None for a draft that does not parse."""
    try:
        return {stated.kind: stated for stated in read_report(text) if stated.present}
    except UnreadableReportError:
        return None


def share(part: int, whole: int) -> float:
    """``part`` of ``whole``, 0 where there is nothing to count: an empty count holds no bar."""
    return round(part / whole, 4) if whole else 0.0


def _kind_score(
    kind: str, truths: list[dict[str, FindingFact]], drafts: list[dict[str, StatedFinding]]
) -> KindScore:
    pairs = [(kind in truth, kind in draft) for truth, draft in zip(truths, drafts, strict=True)]
    hit, false, missed = pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False))
    return KindScore(hit, false, missed, round(2 * hit / max(1, 2 * hit + false + missed), 4))


def _agree(pairs: Sequence[tuple[str, str]]) -> float:
    return share(sum(known == stated for known, stated in pairs), len(pairs))


def score_reports(texts: Sequence[str], facts: Sequence[Sequence[FindingFact]]) -> FindingScore:
    """Compare drafts with what is on their films; a draft that does not parse states nothing."""
    read = [stated_present(text) for text in texts]
    drafts = [draft or {} for draft in read]
    truths = [{fact.kind: fact for fact in merge_sides(known)} for known in facts]
    kinds = {kind: _kind_score(kind, truths, drafts) for kind in KINDS}
    both = [
        (fact, draft[fact.kind])
        for truth, draft in zip(truths, drafts, strict=True)
        for fact in truth.values()
        if fact.kind in draft
    ]
    sided = [(fact.side, stated.side) for fact, stated in both if fact.side]
    right_side = sum(known == stated for known, stated in sided)
    all_sided = sum(bool(fact.side) for truth in truths for fact in truth.values())
    normals = [draft for truth, draft in zip(truths, drafts, strict=True) if not truth]
    return FindingScore(
        studies=len(texts),
        macro_f1=round(float(np.mean([kinds[kind].f1 for kind in KINDS])), 4),
        side_of_found=share(right_side, len(sided)),
        side_of_all=share(right_side, all_sided),
        normal_as_normal=share(sum(not draft for draft in normals), len(normals)),
        readable=share(sum(draft is not None for draft in read), len(read)),
        zone_of_found=_agree([(f.zone, s.zone) for f, s in both if f.zone and f.side == s.side]),
        severity_of_found=_agree([(f.severity, s.severity) for f, s in both if f.severity and s.severity]),
        change_of_found=_agree([(f.change, s.change) for f, s in both if f.change]),
        depth_of_found=_agree([(f.depth, s.depth) for f, s in both if f.depth]),
        compared=share(sum(any(s.change for s in draft.values()) for draft in drafts), len(drafts)),
        kinds=kinds,
    )
