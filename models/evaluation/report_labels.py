"""The labels of a report, as the project's own reader finds them in its text, and label sets in words."""

import hashlib
from collections.abc import Sequence

from models.drafting.findings_text import read_findings
from models.family import Task
from models.vocabulary.english import KINDS as KINDS

LABELLER = "firstread findings_text reader"
REPORTS = frozenset({Task.REPORT, Task.FINDINGS, Task.IMPRESSION, Task.GROUNDED_REPORT, Task.SUMMARIZE})
"""Tasks whose answer is read by the labeller."""
_LONGEST = 200


def labels_of(text: str) -> set[str]:
    """The kinds of ``KINDS`` that ``text`` states as present."""
    return {finding.kind for finding in read_findings(text) if finding.present}


def named_set(labels: Sequence[str]) -> str:
    """The labels in words; a long list is cut and told apart by its digest."""
    joined = ", ".join(labels)
    if len(joined) <= _LONGEST:
        return joined
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()[:8]
    return f"{joined[:_LONGEST]}... ({len(labels)} labels, sha256 {digest})"
