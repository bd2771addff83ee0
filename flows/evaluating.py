"""``firstread models evaluate``: a data set to a table, results.json and plots."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows import show as display
from flows.code_version import code_version
from flows.site_tasks import chosen_model
from models.drafter import open_model
from models.evaluation.areas import ScoresOf
from models.evaluation.asking import predict, refuse_leak, scores_of
from models.evaluation.cases import Case, read_cases
from models.evaluation.intervals import RESAMPLES, Score
from models.evaluation.plots import draw
from models.evaluation.predictions import read_predictions, write_predictions
from models.evaluation.report_labels import LABELLER
from models.evaluation.scores import score, unscored
from models.recipe import Recipe
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate: the filters are "" or 0 for all; ``predictions`` is scored in place of a model."""

    data: Path
    out: Path
    model: str = ""
    weights: Path | None = None
    split: str = ""
    task: str = ""
    language: str = ""
    limit: int = 0
    predictions: Path | None = None
    seed: int = 0


def evaluate(settings: Settings, asked: Evaluation, *, as_json: bool) -> None:
    """Score, write, print. Raises ConfigurationError for a broken data set, a leak or a task the model lacks."""
    cases = _chosen(asked)
    model: dict[str, Any]
    failures: dict[str, str] = {}
    kind = ScoresOf.FILE
    if asked.predictions is not None:
        for case in cases:
            refuse_leak(case)
        made = read_predictions(asked.predictions, cases)
        model = {"predictions_sha256": hashlib.sha256(asked.predictions.read_bytes()).hexdigest()}
    else:
        choice = chosen_model(settings, asked.model)
        if asked.weights is not None:
            choice = replace(choice, weights=asked.weights)
        with open_model(choice, settings.data_dir / "engines") as family:
            made, failures = predict(family, cases)
            kind = scores_of(family)
            parts = {**family.parts, "code": code_version()}
            model = {
                "id": family.model_id,
                "version": family.model_version,
                "runner": family.runner,
                "recipe": Recipe(parts).digest,
                "parts": parts,
            }
    scores = score(cases, made, asked.seed, kind)
    asked.out.mkdir(parents=True, exist_ok=True)
    results = _results(asked, cases, scores, model, failures)
    (asked.out / "results.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", "utf-8")
    write_predictions(asked.out / "predictions.jsonl", made)
    draw(scores, asked.out)
    if as_json:
        sys.stdout.write(json.dumps(results, ensure_ascii=False) + "\n")
        return
    columns = ("task", "language", "metric", "value", "95 % interval", "n", "variant")
    display.rows_table(columns, [_told(one) for one in scores])
    if failures:
        sys.stdout.write(
            f"{len(failures)} of {len(cases)} cases could not be asked and count as empty answers\n"
        )
    if left := results["unscored"]:
        sys.stdout.write(
            f"{len(left)} of {len(cases)} cases have nothing in their reference that is scored\n"
        )


def _told(one: Score) -> tuple[str, ...]:
    """A score as a row of the table."""
    value = "-" if one.value is None else f"{one.value:.3f}"
    between = "-" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
    remarks = "; ".join(part for part in (one.variant, one.scorer, one.note) if part)
    return one.task, one.language, one.metric, value, between, str(one.n), remarks


def _chosen(asked: Evaluation) -> tuple[Case, ...]:
    cases = [
        case
        for case in read_cases(asked.data)
        if asked.split in ("", case.split)
        and asked.task in ("", case.task)
        and asked.language in ("", case.language)
    ]
    if not cases:
        raise ConfigurationError(
            "bad-data-set", "no case has that split, task and language: change --split, --task or --language"
        )
    return tuple(cases[: asked.limit] if asked.limit else cases)


def _results(
    asked: Evaluation,
    cases: tuple[Case, ...],
    scores: tuple[Score, ...],
    model: dict[str, Any],
    failures: dict[str, str],
) -> dict[str, Any]:
    shared = {
        "split": asked.split or "all",
        "context_fields": sorted(
            {name for case in cases for name, text in asdict(case.context).items() if text}
        ),
        "views": sorted({view or "unknown" for case in cases for view in case.views}),
        "scorer": {
            "code": code_version(),
            "labeller": LABELLER,
            **{name: version(name) for name in ("sacrebleu", "jieba")},
        },
        "model": model,
        "decoding": "predictions of a file" if asked.predictions else "as the recipe of the model",
    }
    return {
        "cases": len(cases),
        "bootstrap": {"resamples": RESAMPLES, "seed": asked.seed, "over": "studies", "interval": 0.95},
        "failures": failures,
        "unscored": unscored(cases),
        "scores": [{**asdict(one), **shared} for one in scores],
    }
