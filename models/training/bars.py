"""The bars of firstread-mini on simulated studies and on real films, and what was measured against them."""

from collections.abc import Iterator
from dataclasses import dataclass

from models.families.mini.films import ABNORMAL
from models.training.measure import Measured

AREA_BARS = {
    "pleural_effusion": 0.85,
    "cardiomegaly": 0.85,
    "pneumothorax": 0.82,
    "consolidation": 0.80,
    "nodule": 0.70,
    ABNORMAL: 0.82,
}
STATED_BARS = {"pleural_effusion": 0.55, "pneumothorax": 0.50, "cardiomegaly": 0.50, "consolidation": 0.45}
FALSE_BAR, NORMAL_BAR, DECLINED_BAR = 0.10, 0.25, 0.05


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what must be at least (or, ``most``, at most) ``bound``, and what was ``measured``."""

    name: str
    bound: float
    measured: float
    most: bool = False

    @property
    def held(self) -> bool:
        """Whether the bar holds."""
        return self.measured <= self.bound if self.most else self.measured >= self.bound

    def __str__(self) -> str:
        """One line of the table."""
        sign = "<=" if self.most else ">="
        return f"  {self.name:<58}{self.measured:>8.3f}  {sign} {self.bound:<5.3g}  {'held' if self.held else 'MISSED'}"


def read_bars(measured: Measured) -> Iterator[Bar]:
    """Every bar with its measurement, in the order in which they are stated."""
    english, tasks = measured.reports["en/frontal"], measured.tasks
    chinese = measured.reports["zh/frontal"]
    yield Bar("findings macro F1", 0.92, english.macro_f1)
    yield Bar("F1 of the worst finding", 0.75, english.least_f1)
    yield Bar("side right, of findings detected", 0.97, english.side_of_found)
    yield Bar("side right, of all findings present", 0.90, english.side_of_all)
    yield Bar("severity or size class right, of findings detected", 0.80, english.severity_of_found)
    yield Bar(
        "region IoU >= 0.5, of true positives (grounded report)",
        0.70,
        tasks["grounded_report/en"]["region_at_half"],
    )
    yield Bar("identify: exact answer", 0.85, tasks["identify/en"]["all"])
    yield Bar("VQA: closed questions", 0.90, tasks["vqa/en"]["closed"])
    yield Bar("classification: labels right", 0.90, tasks["classify/en"]["label_accuracy"])
    yield Bar("landmarks within 5 % of the image width", 0.80, tasks["landmark/en"]["all"])
    yield Bar(
        "Chinese behind English, macro F1 (points of 100)",
        3.0,
        100 * (english.macro_f1 - chinese.macro_f1),
        most=True,
    )
    yield Bar("drafts that can be read", 1.0, english.readable)
    yield Bar("normal films drafted as normal", 0.90, english.normal_as_normal)
    yield Bar("macro F1 against the next study's film", 0.25, measured.shuffled.macro_f1, most=True)
    yield Bar("drafts that compare without a prior film", 0.0, english.compared, most=True)
