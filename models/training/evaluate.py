"""Measure a trained model against its bars on simulated studies: ``python -m models.training.evaluate --studies 1000``.

They use poses and seeds that training never sees. Prints tables, then one line of JSON. With ``--shared`` and
``--readings`` the bars on real films follow (``models.training.evaluate_real``, which is also a command of its own).
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from models.catalog import show
from models.families.mini.certainty import RealReader
from models.families.mini.int8 import open_small_encoder
from models.families.mini.mini_family import ensure_mini_graphs
from models.networks.mini import load_mini, load_tokenizer
from models.runners.encoder import VisionEncoder
from models.training.bars import Bar, read_bars
from models.training.evaluate_real import evaluate_real
from models.training.measure import Examiner, Measured
from models.training.scoring import FindingScore
from models.training.unseen import unseen_studies

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "firstread-mini"


def _score_table(title: str, score: FindingScore) -> str:
    lines = [title, f"  {'finding':<26}{'F1':>7}{'hit':>6}{'false':>7}{'missed':>8}"]
    lines += [
        f"  {kind:<26}{k.f1:>7.3f}{k.hit:>6}{k.false:>7}{k.missed:>8}" for kind, k in score.kinds.items()
    ]
    lines.append(
        f"  macro F1 {score.macro_f1:.3f}; side right in {score.side_of_found:.3f} of those found,"
        f" {score.side_of_all:.3f} of all; normal as normal {score.normal_as_normal:.3f};\n"
        f"  readable {score.readable:.3f}; zone right {score.zone_of_found:.3f};"
        f" severity right {score.severity_of_found:.3f}"
    )
    return "\n".join(lines)


def _shown_table(reports: Mapping[str, FindingScore]) -> str:
    head = f"  {'language/films':<16}{'macro F1':>9}{'nodule':>8}{'side':>7}{'severity':>10}{'zone':>7}"
    head += f"{'change':>8}{'depth':>7}"
    lines = ["the same studies by language and by the films shown beside the frontal", head]
    for name, score in reports.items():
        change = f"{score.change_of_found:.3f}" if name.endswith("prior") else "-"
        depth = f"{score.depth_of_found:.3f}" if name.endswith("lateral") else "-"
        lines.append(
            f"  {name:<16}{score.macro_f1:>9.3f}{score.kinds['nodule'].f1:>8.3f}{score.side_of_found:>7.3f}"
            f"{score.severity_of_found:>10.3f}{score.zone_of_found:>7.3f}{change:>8}{depth:>7}"
        )
    return "\n".join(lines)


def _task_table(measured: Measured) -> str:
    lines = ["the other tasks"]
    for name, outcome in measured.tasks.items():
        numbers = ", ".join(
            f"{key} {value}" if isinstance(value, int) else f"{key} {value:.3f}"
            for key, value in outcome.items()
        )
        lines.append(f"  {name}: {numbers}")
    return "\n".join(lines)


def _json(measured: Measured, bars: list[Bar]) -> str:
    result: dict[str, object] = {
        "simulated": {name: score.to_dict() for name, score in measured.reports.items()},
        "shuffled_macro_f1": measured.shuffled.macro_f1,
        "tasks": measured.tasks,
        "bars": {bar.name: round(bar.measured, 4) for bar in bars},
        "bars_missed": [bar.name for bar in bars if not bar.held],
    }
    return json.dumps(result, allow_nan=False)


def small_encoder(model: Path, graphs: Path, size: int, threads: int) -> VisionEncoder:
    """The encoder of ``model.precision = "int8"``, for films of ``size`` pixels; its graphs are kept in ``graphs``."""
    graph = ensure_mini_graphs(show("firstread-mini"), model, graphs).encoder
    return open_small_encoder(graph, size, threads)[0]


def main() -> None:
    """Measure and print; exit status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--shared", type=Path, default=None, help="folder that holds data/nih and the others")
    parser.add_argument("--readings", type=Path, default=None, help="folder that keeps what was read of them")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the rendered studies")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the second language of the smaller tasks"
    )
    parser.add_argument(
        "--int8",
        type=Path,
        default=None,
        metavar="GRAPHS",
        help='read the films by the encoder of model.precision = "int8", its graphs kept in this folder',
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    network, tokenizer = load_mini(chosen.model), load_tokenizer(chosen.model)
    samples = unseen_studies(chosen.studies, network.config.vision.image_size, chosen.cache)
    encoder = None
    if chosen.int8 is not None:
        encoder = small_encoder(chosen.model, chosen.int8, network.config.vision.image_size, chosen.threads)
    reader = RealReader.of(chosen.model)
    measured = Examiner(network, tokenizer, samples, encoder, reader).measure(quick=chosen.quick)
    bars = list(read_bars(measured))
    title = f"{chosen.studies} simulated studies, poses held out, frontal film alone, English"
    print(_score_table(title, measured.reports["en/frontal"]))
    print(f"reports held against the next study's film: macro F1 {measured.shuffled.macro_f1:.3f}")
    print(_shown_table(measured.reports))
    print(_task_table(measured))
    print("bars")
    print("\n".join(str(bar) for bar in bars), flush=True)
    print(_json(measured, bars))
    if chosen.shared and chosen.readings:
        bars += evaluate_real(chosen.model, chosen.shared, chosen.readings)
    raise SystemExit(0 if all(bar.held for bar in bars) else 1)


if __name__ == "__main__":
    main()
