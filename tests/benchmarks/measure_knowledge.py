"""How often the knowledge base answers what it holds, and is silent on what it does not.

    python -m tests.benchmarks.measure_knowledge

The base and the questions are ours (tests/data/knowledge), written before the first run; ``LEAST_SHARE`` was set to a
half before it and nothing was tuned after it. Right is a question in the base whose best passage is of the file that
answers it.
"""

import csv
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flows.knowledge import found, load_all
from pipeline.setting_lists import KnowledgeSettings
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from pipeline.store.store import Store

HERE = Path(__file__).resolve().parents[1] / "data" / "knowledge"
BASE = KnowledgeSettings(name="sample", path=HERE / "base")


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """``source`` is the file that answers it, "" where the base does not hold it."""

    language: str
    source: str
    question: str


def questions() -> tuple[AskedQuestion, ...]:
    """Every question."""
    with (HERE / "questions.csv").open(encoding="utf-8", newline="") as file:
        return tuple(AskedQuestion(**row) for row in csv.DictReader(file))


def measured(store: Store) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Counts by language and outcome (right, wrong file, unanswered, silent, false answer); what went wrong."""
    counts: Counter[tuple[str, str]] = Counter()
    missed = []
    list(load_all(store, [BASE]))
    for asked in questions():
        passages = found(store, [BASE], asked.question)
        if not asked.source:
            outcome = "false answer" if passages else "silent"
        elif not passages:
            outcome = "unanswered"
        else:
            outcome = "right" if passages[0].path == asked.source else "wrong file"
        counts[asked.language, outcome] += 1
        if outcome not in ("right", "silent"):
            best = passages[0] if passages else None
            at = f"{best.path} {best.place} {best.share:.2f}" if best else "-"
            missed.append(f"{asked.language} {outcome}: {asked.question} ({at})")
    return counts, missed


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres.ensure(Path(folder), {"fsync": "off"}) as server,
    ):
        url = server.database_url_for("measured", "psycopg")
        upgrade(url)
        with Store(url) as store:
            counts, missed = measured(store)
    for (language, outcome), count in sorted(counts.items()):
        sys.stdout.write(f"{language:4}{outcome:14}{count:3}\n")
    sys.stdout.write("".join(f"{one}\n" for one in missed))


if __name__ == "__main__":
    main()
