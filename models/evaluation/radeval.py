"""RadGraph, CheXbert and GREEN through RadEval, which runs in a process of its own (``radeval_child``).

All three read English only. Nothing is downloaded: RadEval is told to stay off the network, and its models are brought
to this machine by a person.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.evaluation import radeval_child
from models.evaluation.cases import Case
from models.evaluation.intervals import Measure, Row, Score, f1, mean, outcomes, score_rows
from models.evaluation.predictions import Prediction
from models.evaluation.radeval_child import GREEN, GREEN_MODEL
from models.evaluation.report_labels import REPORTS
from pipeline.child_process import stop
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Language

NEEDED = {
    "radgraph": (
        "radgraph-xl.tar.gz of StanfordAIMI/RRG_scorers under ~/.cache/radgraph/0.1.18, and in the Hugging Face cache "
        "the BERT that its config.json names"
    ),
    "f1chexbert": (
        "chexbert.pth of StanfordAIMI/RRG_scorers under ~/.cache/chexbert, and bert-base-uncased in the Hugging Face "
        "cache"
    ),
    GREEN: f"{GREEN_MODEL} in the Hugging Face cache, whose own code it runs",
}
"""What each metric needs on disk, by the name RadEval gives it."""
_LOOK = (
    f"green runs code that comes with {GREEN_MODEL}: look at the revision on this machine and name its commit, "
    f"--radeval {GREEN}@COMMIT"
)
INSTALL = "pip install 'firstread[metrics]'"
_TOGETHER = 16
_NAMES = {
    "radgraph_simple": ("RadGraph F1 simple", "entities with their labels; radgraph-xl, mean of texts"),
    "radgraph_partial": (
        "RadGraph F1 partial",
        "and whether they have a relation; radgraph-xl, mean of texts",
    ),
    "radgraph_complete": ("RadGraph F1 complete", "and their relations; radgraph-xl, mean of texts"),
    "green": (
        "GREEN",
        "matched findings among them and significant errors; GREEN-radllama2-7b, mean of texts",
    ),
}


def named(metrics: str) -> tuple[str, ...]:
    """The metrics of a comma-separated list. Raises ConfigurationError for one that is not in ``NEEDED``, and for GREEN
    without the commit of its model ("green@COMMIT"): it runs that repository's code."""
    wanted = tuple(dict.fromkeys(name for part in metrics.split(",") if (name := part.strip())))
    if unknown := [name for name in wanted if name not in NEEDED and not name.startswith(f"{GREEN}@")]:
        message = f"--radeval takes {', '.join(NEEDED)}, not {', '.join(unknown)}"
        raise ConfigurationError("radeval", message)
    if GREEN in wanted:
        raise ConfigurationError("radeval", _LOOK)
    return wanted


def readable(cases: Sequence[Case]) -> list[int]:
    """Places of the cases that RadEval can score: English reports with a reference text."""
    return [
        place
        for place, case in enumerate(cases)
        if case.task in REPORTS and case.language is Language.ENGLISH and case.reference.text
    ]


def left_out(cases: Sequence[Case]) -> int:
    """How many reports are not English, which no metric here reads."""
    return sum(
        case.task in REPORTS and case.language is not Language.ENGLISH and bool(case.reference.text)
        for case in cases
    )


class RadEval:
    """A running scorer process."""

    def __init__(self, metrics: Sequence[str], process: "subprocess.Popen[bytes]") -> None:
        """Raises as :func:`open_radeval`."""
        self._process = process
        self._green = next((one.partition("@")[2] for one in metrics if one.startswith(GREEN)), "")
        told = self._say({"metrics": list(metrics)})
        self.version: str = told["radeval"]
        self.labels: list[str] = told["labels"]
        self.five: list[str] = told["five"]

    def rows(self, refs: list[str], hyps: list[str]) -> list[list[Row]]:
        """The rows of each pair of reference and prediction. Raises StopRun where the process ends."""
        told = self._say({"refs": refs, "hyps": hyps})
        rows: list[list[Row]] = [[] for _ in refs]
        scorer = f"RadEval {self.version}"
        for key, values in told["scores"].items():
            name, variant = _NAMES.get(key, (key, "mean of texts"))
            if key == GREEN:
                variant = f"{variant}; commit {self._green}"
            for row, value in zip(rows, values, strict=True):
                if value is not None:
                    row.append(mean(Measure(name, variant, scorer=scorer, plotted=name), value))
        if told["labels"]:
            for row, true, own in zip(rows, told["labels"]["refs"], told["labels"]["hyps"], strict=True):
                row += self._label_rows(own, true, scorer)
        return rows

    def _label_rows(self, own: Sequence[int], true: Sequence[int], scorer: str) -> Iterator[Row]:
        claimed, held = (
            {name for name, one in zip(self.labels, row, strict=True) if one} for row in (own, true)
        )
        for names in (self.labels, self.five):
            counts = outcomes(claimed, held, names)
            variant = f"CheXbert, uncertain as present, {', '.join(names)}"
            title = f"CheXbert F1-{len(names)}"
            nothing = "no label is present in any text"
            micro = Measure(f"{title} micro", variant, nothing, scorer, f"{title}, micro")
            absent = f"{variant}; one that never occurs counts 0"
            macro = Measure(f"{title} macro", absent, nothing, scorer, f"{title}, macro")
            yield f1(micro, counts, macro=False)
            yield f1(macro, counts, macro=True, every=True)

    def _say(self, line: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
            told: dict[str, Any] = json.loads(self._process.stdout.readline() or b"{}")
        except BrokenPipeError:
            told = {}
        if not told:
            code = self._process.wait()
            message = f"the process of RadEval ended with code {code} (-9: out of memory); see radeval.log"
            raise StopRun("radeval", message)
        if told.get("error") == "missing":
            raise ConfigurationError("radeval", f"RadEval is not whole ({told['message']}): {INSTALL}")
        if told.get("error") == "revision":
            raise ConfigurationError("radeval", f"{_LOOK} ({told['message']})")
        if told.get("error"):
            metric, _, why = told["message"].partition(": ")
            message = (
                f"{metric} cannot be opened ({why}). It needs {NEEDED[metric]}; nothing is downloaded here"
            )
            raise ConfigurationError("radeval", message)
        return told


@contextmanager
def open_radeval(metrics: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[RadEval]:
    """RadEval with ``metrics`` open, none to see whether it is there. ``environment`` is that of this process, ``log``
    keeps what its libraries print.

    Raises ConfigurationError where a package or a model is missing, StopRun where the process ends of itself.
    """
    command = [sys.executable, "-m", radeval_child.__name__]
    with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            [*command, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=kept,
            env={**environment, "HF_HUB_OFFLINE": "1"},
        )
        with process:
            try:
                yield RadEval(metrics, process)
            finally:
                stop(process)


def score_radeval(
    opened: RadEval,
    cases: Sequence[Case],
    predictions: Sequence[Prediction],
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Score, ...]:
    """Scores of the cases that it can read, per task; ``progress`` hears how many cases are done. Raises StopRun."""
    places = readable(cases)
    rows: dict[str, list[tuple[str, Row]]] = {}
    for start in range(0, len(places), _TOGETHER):
        part = places[start : start + _TOGETHER]
        told = opened.rows([cases[p].reference.text for p in part], [predictions[p].text for p in part])
        for place, held in zip(part, told, strict=True):
            case = cases[place]
            rows.setdefault(case.task.value, []).extend((case.study, row) for row in held)
        if progress is not None:
            progress(start + len(part))
    return tuple(
        one for task in sorted(rows) for one in score_rows((task, Language.ENGLISH.value), rows[task], seed)
    )
