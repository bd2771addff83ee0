"""What happens when: drawn from a seed alone, before anything starts."""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

FAULTS: Mapping[str, tuple[float, float, float]] = {
    "orthanc.kill": (2, 0.5, 6),
    "orthanc.restart": (1, 0.5, 6),
    "orthanc.stall": (2, 1, 12),
    "orthanc.slow": (2, 3, 10),
    "postgres.restart": (2, 0.2, 5),
    "postgres.kill": (2, 0.2, 5),
    "postgres.stall": (2, 0.5, 10),
    "prefect.kill": (1, 0.5, 8),
    "prefect.stall": (1, 1, 10),
    "listener.kill": (4, 0.1, 2),
    "listener.term": (2, 0.1, 2),
    "listener.stall": (2, 0.5, 8),
    "run.kill": (4, 0, 0),
    "run.term": (3, 0, 0),
    "run.int": (2, 0, 0),
    "run.stall": (3, 2, 14),
    "disk.low": (1, 2, 8),
    "disk.full": (2, 2, 8),
}
"""Weight, and the shortest and longest time in seconds for which it lasts (or until the program is started again)."""
TRAFFIC: Mapping[str, float] = {
    "study.archived": 6,
    "study.pushed": 8,
    "study.pushed-and-archived": 6,
    "film.late-in-archive": 3,
    "film.late-pushed": 6,
    "film.replaced": 3,
    "patient.corrected": 3,
    "study.deleted": 1,
    "study.returned": 1,
    "film.sent-twice": 2,
    "senders.idle": 1,
}
"""Weight of what arrives, changes and goes."""
FAULT_EVERY = 3.0
TRAFFIC_EVERY = 1.5
"""Mean seconds from one to the next."""


@dataclass(frozen=True, slots=True)
class Step:
    """At ``at`` seconds ``kind`` happens, for ``seconds``; ``choice`` (0 to 1) says to which of those there are."""

    at: float
    kind: str
    seconds: float
    choice: float


def draw(seed: int, seconds: float) -> tuple[list[Step], list[Step]]:
    """Faults and traffic of a run of ``seconds``; the same seed and length give the same ones."""
    generator = random.Random(f"chaos-{seed}")
    faults = [
        Step(at, kind, round(generator.uniform(*FAULTS[kind][1:]), 2), generator.random())
        for at, kind in _times(
            generator, seconds, FAULT_EVERY, {kind: one[0] for kind, one in FAULTS.items()}
        )
    ]
    traffic = [
        Step(at, kind, round(generator.uniform(1, 8), 2), generator.random())
        for at, kind in _times(generator, seconds, TRAFFIC_EVERY, TRAFFIC)
    ]
    return faults, traffic


def write_plan(path: Path, faults: list[Step], traffic: list[Step]) -> None:
    """One step a line, in the order of time."""
    steps = sorted((*faults, *traffic), key=lambda one: one.at)
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in steps), encoding="utf-8")


def _times(
    generator: random.Random, seconds: float, every: float, weights: Mapping[str, float]
) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    at = generator.expovariate(1 / every)
    while at < seconds:
        found.append((round(at, 2), generator.choices(list(weights), list(weights.values()))[0]))
        at += generator.expovariate(1 / every)
    return found
