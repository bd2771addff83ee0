"""Identifiers planted in requests of eight languages: how many are taken out, and how many other words go with them.

In ``tests/planted/identifiers.jsonl`` brackets mark what leads to a person. ``python -m
tests.unit.test_planted_identifiers`` prints the table of docs/security.md.
"""

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.identifier_removal import REMOVED, without_identifiers
from pipeline.study_context import PatientIdentity, StudyContext

PLANTED = Path(__file__).resolve().parents[1] / "planted"
NOBODY = StudyContext("1.2.840.99.7", PatientIdentity("P-1", "", ("Unrelated^Person",)))
MARK = re.compile(r"\[([^\]]+)\]")


@dataclass(slots=True)
class Measured:
    planted: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    words: int = 0
    lost: list[str] = field(default_factory=list)


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text))


def measure() -> Measured:
    """An identifier counts as removed where none of its words is left, but for titles and words like "born"."""
    done = Measured()
    for line in (PLANTED / "identifiers.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        left = without_identifiers(MARK.sub(r"\1", case["text"]), NOBODY)
        for marked in MARK.findall(case["text"]):
            done.planted[case["language"]] += 1
            plain = words(MARK.sub(" ", case["text"]))
            if any(words(left)[one] > plain[one] for one in words(marked) if one not in TELL_NOBODY):
                done.left.append(f"{case['language']}: {marked}")
            else:
                done.removed[case["language"]] += 1
        plain = words(MARK.sub(" ", case["text"]))
        done.words += plain.total()
        done.lost += [one for one in (plain - words(left)).elements() if one not in TELL_NOBODY]
    for line in (PLANTED / "no-identifiers.txt").read_text(encoding="utf-8").splitlines():
        done.words += words(line).total()
        done.lost += (words(line) - words(without_identifiers(line, NOBODY))).elements()
    return done


TELL_NOBODY = words(
    "Dr dr Prof Mr Mme M Frau Herrn Señora Dra Sr Sra Sig ra Dott Mevr geb née le de la yo aged ans años anni anos "
    "jaar jähriger med Praxis O s St Hospital DOB SSN MRN IPP Tel tel accession 医生岁姓名电话住址身份证"
)
"""Titles and labels: they may stay or go."""


def test_what_is_planted_is_taken_out_and_little_else() -> None:
    done = measure()
    assert done.planted.total() > 70
    assert done.removed.total() >= 0.95 * done.planted.total(), done.left
    assert len(done.lost) <= 0.02 * done.words, done.lost


def test_a_name_behind_a_title_goes_wherever_it_stands() -> None:
    left = without_identifiers("Meyer saw her. Dr Meyer; ask Meyer, not Meyerson.", NOBODY)
    assert left == f"{REMOVED} saw her. {REMOVED}; ask {REMOVED}, not Meyerson."


def main() -> None:
    done = measure()
    for language in sorted(done.planted):
        sys.stdout.write(f"{language} {done.removed[language]}/{done.planted[language]}\n")
    sys.stdout.write(f"all {done.removed.total()}/{done.planted.total()}; left: {done.left}\n")
    sys.stdout.write(f"lost {len(done.lost)} of {done.words} words: {done.lost}\n")


if __name__ == "__main__":
    main()
