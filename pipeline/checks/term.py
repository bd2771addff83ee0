"""What a finding is to the checks: its names and the words that support or deny it.

This is a second reading of the draft, kept apart from the parser that filled ``DraftReport.findings``, so that one
mistake does not hide another. ``terms`` are strict synonyms: only they can contradict each other. ``support`` are
looser words that may justify the finding elsewhere ("opacity" supports "pneumonia").
"""

import re
from dataclasses import dataclass
from re import Pattern


@dataclass(frozen=True, slots=True)
class Term:
    """One finding: its key, the name shown to a reader, and how it is written.

    ``sided`` findings belong to one side of the chest; ``acute`` ones contradict "no acute abnormality";
    ``normal`` recognises statements that deny the finding without a negation word ("heart size is normal");
    ``implied`` those that only imply its absence ("the costophrenic angles are sharp"); in a sentence with one of the
    words of ``unless`` the term names something else. A ``concluded`` finding is an interpretation, so that an
    Impression may name it although Findings do not.
    """

    key: str
    label: str
    terms: Pattern[str]
    support: Pattern[str] | None = None
    normal: Pattern[str] | None = None
    implied: Pattern[str] | None = None
    unless: Pattern[str] | None = None
    sided: bool = False
    acute: bool = False
    concluded: bool = False


def words(*alternatives: str) -> Pattern[str]:
    """One pattern over ``alternatives``, case ignored."""
    return re.compile("|".join(alternatives), re.IGNORECASE)
