"""Checks: recall on planted faults, false alarms on clean drafts, per language and half.

    python -m tests.benchmarks.bench_checks [--misses]

``--misses`` names the drafts of the development half that a check missed or wrongly objected to. Those of the other
sets are never shown: the checks are not changed for them.
"""

import argparse
import sys
from collections.abc import Mapping

from tests.planted_drafts import FOUND_BY, HALVES, Tally, false_alarms, recall, rows, verdicts

Tallies = Mapping[tuple[str, str], Tally]


def main() -> None:
    """Print both tables as markdown."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--misses", action="store_true")
    asked = reader.parse_args()
    print_table("planted fault", {half: recall(half) for half in HALVES})
    print_table("false alarms of", {half: false_alarms(half) for half in HALVES})
    if asked.misses:
        print_misses()


def print_table(title: str, halves: Mapping[str, Tallies]) -> None:
    """One row a check; a cell is ``found / planted (refused)``."""
    names = list(dict.fromkeys(name for tallies in halves.values() for name, _ in tallies))
    columns = [(half, language) for half in HALVES for language in ("en", "zh")]
    sys.stdout.write(f"| {title} | {' | '.join(f'{half}, {language}' for half, language in columns)} |\n")
    sys.stdout.write(f"|---|{'---|' * len(columns)}\n")
    for name in names:
        cells = [_cell(halves[half].get((name, language))) for half, language in columns]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    sys.stdout.write("\n")


def print_misses() -> None:
    """The drafts of the development half on which a check was wrong."""
    for row in rows("faults"):
        if row["half"] == "development":
            against = verdicts(row)
            if FOUND_BY.get(row["fault"], row["fault"]) not in against:
                sys.stdout.write(f"missed {row['fault']}: {row['findings']} | {row['impression']}\n")
    for row in rows("clean"):
        if row["half"] == "development" and (against := verdicts(row)):
            sys.stdout.write(f"false {dict(against)}: {row['findings']} | {row['impression']}\n")


def _cell(tally: Tally | None) -> str:
    return f"{tally.found} / {tally.planted} ({tally.failed})" if tally else "-"


if __name__ == "__main__":
    main()
