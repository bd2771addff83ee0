"""What stands in for the package ``radeval`` in a scorer process: its interface (2.2.1), without networks.

Copied as ``radeval`` onto the process's path. As the package does, it filters warnings, sets a variable and
prints when it opens a metric, imports part of itself by its former name, and gives lists for ``per_sample``.
"""

import os
import warnings
from typing import Any


class _RadGraph:
    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, list[float]]:
        from RadEval.metrics.shares import shared  # type: ignore[import-not-found]

        whole = [shared(ref, hyp) for ref, hyp in zip(refs, hyps, strict=True)]
        return {f"radgraph_{level}": whole for level in ("simple", "partial", "complete")}


class _Green:
    def __init__(self) -> None:
        if os.environ.get("STAND_IN_GREEN") != "here":
            assert os.environ["HF_HUB_OFFLINE"] == "1"
            raise OSError(
                "We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection."
            )

    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, list[float | None]]:
        with open("green.csv", "w", encoding="utf-8") as kept:
            kept.write("\n".join(hyps))
        if "crash" in hyps:
            os._exit(7)
        return {"green": [1 if hyp else None for hyp in hyps]}


class RadEval:
    """``RadEval(metrics=[...], per_sample=True, show_progress=False)(refs=[...], hyps=[...])``."""

    def __init__(
        self, metrics: list[str] | None = None, *, per_sample: bool = False, show_progress: bool = True
    ) -> None:
        assert per_sample
        assert not show_progress
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        warnings.filterwarnings("ignore")
        print("Using device: cpu")
        makers: dict[str, Any] = {"radgraph": _RadGraph, "green": _Green}
        self._active = [makers[name]() for name in metrics or []]

    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, Any]:
        scores: dict[str, Any] = {}
        for metric in self._active:
            scores |= metric(refs=refs, hyps=hyps)
        return scores
