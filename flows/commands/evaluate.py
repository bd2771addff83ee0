"""``firstread models evaluate``: a data set to a table, results.json, plots, and the worst cases."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.commands.evaluation_table import show_scores
from flows.commands.progress import counting
from flows.environment.code_version import code_version
from flows.environment.site_models import chosen_model
from models.drafter import open_model
from models.evaluation.answering import predict, refuse_leak, scores_of
from models.evaluation.areas import ScoresOf
from models.evaluation.cases import Case, read_cases
from models.evaluation.curves import draw_curves
from models.evaluation.intervals import RESAMPLES, Score
from models.evaluation.plots import draw
from models.evaluation.predictions import Prediction, read_predictions, write_predictions
from models.evaluation.radeval import left_out, named, open_radeval, readable, score_radeval
from models.evaluation.report_labels import LABELLER
from models.evaluation.scores import score, unscored
from models.evaluation.worst import write_worst
from models.family import PromptContext, traits_of
from models.recipe import Recipe
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings, environment


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate: the filters are "" or 0 for all; ``predictions`` is scored in place of a model; ``radeval``
    names further metrics, separated by commas.
    """

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
    batch: int = 8
    radeval: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The predictions, and what is stored of where they come from: ``model`` beside every score, the ``parts`` of its
    recipe once; ``context`` are the fields that were given.
    """

    made: list[Prediction]
    kind: ScoresOf
    model: dict[str, Any]
    decoding: str
    context: frozenset[str]
    parts: Mapping[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def evaluate(settings: Settings, asked: Evaluation, *, as_json: bool) -> None:
    """Score, write, print.

    Raises ConfigurationError for a broken data set, a leak, a task the model lacks or a scorer that is not there. The
    predictions are written before they are scored: what fails after that can be done again with ``--predictions``.
    """
    cases = _chosen(asked)
    metrics = named(asked.radeval)
    _make(asked.out)
    log = asked.out / "radeval.log"
    if metrics:
        _check_radeval(cases, log)
    told = (
        _of_file(asked.predictions, cases)
        if asked.predictions is not None
        else _of_model(settings, asked, cases, show=not as_json)
    )
    write_predictions(asked.out / "predictions.jsonl", told.made)
    scores = score(cases, told.made, asked.seed, told.kind)
    if metrics:
        with (
            open_radeval(metrics, environment(), log) as opened,
            counting("RadEval", len(readable(cases)), show=not as_json) as progress,
        ):
            scores += score_radeval(opened, cases, told.made, asked.seed, progress)
    results = _results(asked, cases, scores, told)
    (asked.out / "results.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", "utf-8")
    draw(scores, asked.out)
    draw_curves(cases, told.made, asked.out, told.kind)
    write_worst(cases, told.made, asked.out)
    if as_json:
        sys.stdout.write(json.dumps(results, ensure_ascii=False) + "\n")
    else:
        show_scores(scores, results)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder} cannot be made ({error.strerror}): name another --out"
        raise ConfigurationError("out", message) from None


def _check_radeval(cases: Sequence[Case], log: Path) -> None:
    """Refuse before a model is asked anything: its answers may take hours."""
    if not readable(cases):
        message = "--radeval scores English reports, and the data set has none: leave it out"
        raise ConfigurationError("radeval", message)
    with open_radeval((), environment(), log):
        pass


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


def _of_file(file: Path, cases: Sequence[Case]) -> _Asked:
    for case in cases:
        refuse_leak(case)
    made = read_predictions(file, cases)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    every = frozenset(asdict(PromptContext()))
    return _Asked(made, ScoresOf.FILE, {"predictions_sha256": digest}, "predictions of a file", every)


def _of_model(settings: Settings, asked: Evaluation, cases: Sequence[Case], *, show: bool) -> _Asked:
    choice = chosen_model(settings, asked.model)
    if asked.weights is not None:
        choice = replace(choice, weights=asked.weights)
    with open_model(choice, settings.data_dir / "engines") as family:
        with counting("asked", len(cases), show=show) as progress:
            made, failures = predict(family, cases, batch=asked.batch, progress=progress)
        parts = {**family.parts, "code": code_version()}
        model = {
            "id": family.model_id,
            "version": family.model_version,
            "runner": family.runner,
            "recipe": Recipe(parts).digest,
        }
        decoding, context = "as the recipe of the model", traits_of(family).context
        return _Asked(made, scores_of(family), model, decoding, context, parts, failures)


def _results(
    asked: Evaluation, cases: Sequence[Case], scores: Sequence[Score], told: _Asked
) -> dict[str, Any]:
    scorer = {
        "code": code_version(),
        "labeller": LABELLER,
        **{name: version(name) for name in ("sacrebleu", "jieba")},
    }
    return {
        "cases": len(cases),
        "bootstrap": {"resamples": RESAMPLES, "seed": asked.seed, "over": "studies", "interval": 0.95},
        "model": {**told.model, "parts": dict(told.parts)},
        "failures": told.failures,
        "unscored": unscored(cases),
        "not_english": left_out(cases) if asked.radeval else 0,
        "scores": [
            {
                **asdict(one),
                **_given(one, cases, told.context),
                "scorer": {**scorer, "package": one.scorer} if one.scorer else scorer,
                "model": told.model,
                "decoding": told.decoding,
            }
            for one in scores
        ],
    }


def _given(one: Score, cases: Sequence[Case], context: frozenset[str]) -> dict[str, Any]:
    """The splits, context fields and views of the cases that a score is of."""
    counted = [case for case in cases if (case.task, case.language) == (one.task, one.language)]
    fields = {name for case in counted for name, text in asdict(case.context).items() if text}
    return {
        "split": ", ".join(sorted({case.split or "unnamed" for case in counted})),
        "context_fields": sorted(fields & context),
        "views": sorted({view or "unknown" for case in counted for view in case.views}),
    }
