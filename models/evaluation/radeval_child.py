"""The process that runs RadEval: JSON lines in on standard input, JSON lines out on standard output.

RadEval filters every warning of its process, prints to standard output, sets variables and takes several GiB; so it
has a process of its own (``models.evaluation.radeval`` starts it). It is given, and answers:

    {"metrics": [name, ...]}        {"radeval": version, "labels": [name, ...], "five": [name, ...]}
    {"refs": [...], "hyps": [...]}  {"scores": {key: [...]}, "labels": {"refs": [[0, 1, ...]], "hyps": [...]}}

or {"error": code, "message": text}, and ends with its input. ``labels`` are CheXbert's and empty without it. GREEN runs
code that lies beside its weights, so it is asked for as "green@COMMIT". The interface is that of RadEval 2.2.1, read in
its source.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

CHEXBERT = "f1chexbert"
"""Of this RadEval gives the F1 of a whole data set only; for an interval over studies the labels are asked for."""
GREEN = "green"
GREEN_MODEL = "StanfordAIMI/GREEN-radllama2-7b"
LONGEST = 300


class RefusedError(Exception):
    """What a person is told: a code, and a message that holds no report's text."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Scorer:
    """RadEval with its metrics open."""

    def __init__(self, metrics: Sequence[str]) -> None:
        """Raises RefusedError: "missing" without a package, "closed" where a metric cannot be opened, "revision" where
        another commit of GREEN than the one named lies here; its message is that commit."""
        try:
            import radeval
        except ImportError as error:
            raise RefusedError("missing", str(error)) from error
        # The RadGraph within 2.2.1 imports itself by the package's former name (RadEval issue 27).
        sys.modules.setdefault("RadEval", radeval)
        self.version = version("radeval")
        self._metrics = []
        for name, _, revision in (metric.partition("@") for metric in metrics if metric != CHEXBERT):
            if name == GREEN:
                _check_revision(revision)
            opener = partial(radeval.RadEval, metrics=[name], per_sample=True, show_progress=False)
            self._metrics.append(_open(name, opener))
        self._labeller = _open(CHEXBERT, _chexbert) if CHEXBERT in metrics else None
        self.labels = [] if self._labeller is None else list(self._labeller.TARGET_NAMES)
        self.five = [] if self._labeller is None else list(self._labeller.TOP5)

    def score(self, refs: list[str], hyps: list[str]) -> dict[str, Any]:
        """Scores of each pair by RadEval's own key, and CheXbert's labels of both, uncertain ones as present."""
        scores: dict[str, list[float | None]] = {}
        for metric in self._metrics:
            for key, values in metric(refs=refs, hyps=hyps).items():
                scores[key] = [None if value is None else float(value) for value in values]
        labels = {}
        if self._labeller is not None:
            for name, texts in (("refs", refs), ("hyps", hyps)):
                labels[name] = [[int(one) for one in row] for row in self._labeller.get_labels(texts)]
        return {"scores": scores, "labels": labels}


def _open(metric: str, opener: Callable[[], Any]) -> Any:
    try:
        return opener()
    except ImportError as error:
        raise RefusedError("missing", str(error)) from error
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")[:LONGEST]
        raise RefusedError("closed", f"{metric}: {type(error).__name__}: {first}") from error


def _check_revision(named: str) -> None:
    """RadEval opens the commit that the cache holds as "main"."""

    def held() -> str:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(GREEN_MODEL, local_files_only=True)).name

    if (commit := _open(GREEN, held)) != named:
        raise RefusedError("revision", commit)


def _chexbert() -> Any:
    """CheXbert on what the machine has: RadEval's own opening wants a GPU (2.2.1)."""
    import torch
    from radeval.metrics.f1chexbert import F1CheXbert

    return F1CheXbert(device="cuda" if torch.cuda.is_available() else "cpu")


def serve(lines: TextIO, out: TextIO) -> None:
    """Answer every line until the first error."""
    scorer: Scorer | None = None
    for line in lines:
        asked = json.loads(line)
        try:
            if scorer is None:
                scorer = Scorer(asked["metrics"])
                answer = {"radeval": scorer.version, "labels": scorer.labels, "five": scorer.five}
            else:
                answer = scorer.score(asked["refs"], asked["hyps"])
        except RefusedError as error:
            answer = {"error": error.code, "message": str(error)}
        out.write(json.dumps(answer) + "\n")
        out.flush()
        if "error" in answer:
            return


def main() -> None:
    """Keep standard output for the answers: what libraries print there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    os.chdir(sys.argv[1])
    with answers:
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
