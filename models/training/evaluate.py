"""Measure a trained model against its bars: ``python -m models.training.evaluate --studies 600 --shared DIR``.

Simulated studies use poses and seeds that training never sees. Real films are those of the held-back patients; without
``--shared`` they are left out. Prints tables, then one line of JSON.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.networks.mini import FirstreadMini, load_mini, load_tokenizer, prompt_ids
from models.simulation.film import MAX_VALUE, SimulatedFilm, choose_kinds, render, render_from
from models.simulation.phrases import KINDS, FindingFact
from models.training.real_films import held_back, load_chests, load_film, read_collection
from models.training.scoring import Score, area_under_curve, score_reports, stated_present

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "firstread-mini"
BATCH = 40
REAL_LABELS = {
    "nodule": ("Nodule", "Mass"),
    "consolidation": ("Consolidation", "Pneumonia", "Infiltration"),
    "pleural_effusion": ("Effusion",),
    "pneumothorax": ("Pneumothorax",),
    "cardiomegaly": ("Cardiomegaly",),
    "pacemaker": (),
    "central_venous_catheter": (),
}
"""Published labels that stand for each finding; the collection does not label devices."""
BARS = {
    "macro_f1": 0.86,
    "least_f1": 0.60,
    "side_of_found": 0.97,
    "side_of_all": 0.80,
    "normal_as_normal": 0.90,
    "readable": 1.0,
}
MOST_SHUFFLED_F1, MOST_REAL_CLAIMS = 0.25, 0.25


@dataclass(frozen=True, slots=True)
class Drafts:
    """``texts`` of the drafts and ``presence`` logits [n, kinds]."""

    texts: list[str]
    presence: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RealRow:
    """One finding on real films; None where no film is labelled with it."""

    labelled: int
    sensitivity: float | None
    auc: float | None
    normal_films: int
    claimed_on_normal: float


RealTable = dict[str, RealRow]


@torch.no_grad()
def draft(network: FirstreadMini, tokenizer: Tokenizer, films: NDArray[np.float32]) -> Drafts:
    """Write a report for each of ``films`` [n, size, size], grey levels 0..1, greedily and in batches."""
    texts: list[str] = []
    presence = []
    for start in range(0, len(films), BATCH):
        pixels = torch.from_numpy(films[start : start + BATCH])[:, None]
        embeddings, seen = network.encode(pixels, network.task_index("report", len(pixels)))
        texts += [tokenizer.decode(ids) for ids in network.write(embeddings, prompt_ids("report"))]
        presence.append(seen.presence[:, :, 0].numpy())
    return Drafts(texts, np.concatenate(presence))


def _pixels(films: Sequence[SimulatedFilm]) -> NDArray[np.float32]:
    return np.stack([film.pixels for film in films]).astype(np.float32) / np.float32(MAX_VALUE)


def _facts(films: Sequence[SimulatedFilm]) -> list[list[FindingFact]]:
    return [[finding.fact for finding in film.findings] for film in films]


def evaluate_simulated(network: FirstreadMini, tokenizer: Tokenizer, studies: int) -> tuple[Score, Score]:
    """Score on held-out poses, and score when every report is held against the next study's film."""
    films = [render(seed, size=network.config.vision.image_size, held_out=True) for seed in range(studies)]
    texts = draft(network, tokenizer, _pixels(films)).texts
    facts = _facts(films)
    return score_reports(texts, facts), score_reports(texts[1:] + texts[:1], facts)


def evaluate_inserted(network: FirstreadMini, tokenizer: Tokenizer, shared: Path) -> Score:
    """Score on simulated findings inserted twice into each normal film of the held-back patients."""
    normals = [film for film in read_collection(shared) if film.normal and held_back(film.patient)]
    generator = np.random.default_rng(0)
    size = network.config.vision.image_size
    films = [
        render_from(chest.maps, choose_kinds(generator), size, generator, framed=True)
        for chest in load_chests(normals)
        if chest.aligned
        for _ in range(2)
    ]
    return score_reports(draft(network, tokenizer, _pixels(films)).texts, _facts(films))


def _claims(texts: list[str]) -> list[set[str]]:
    """Kinds each draft states as present; an unreadable draft claims nothing."""
    return [set(stated_present(text) or {}) for text in texts]


def evaluate_real(network: FirstreadMini, tokenizer: Tokenizer, shared: Path) -> RealTable:
    """Sensitivity, claims on normal films and AUC per finding, on the untouched films of the held-back patients."""
    films = [film for film in read_collection(shared) if held_back(film.patient)]
    pixels = np.stack([load_film(film.path, network.config.vision.image_size) for film in films])
    drafts = draft(network, tokenizer, pixels)
    claims = _claims(drafts.texts)
    normal = [index for index, film in enumerate(films) if film.normal]
    rows: RealTable = {}
    for channel, kind in enumerate(KINDS):
        labelled = [i for i, film in enumerate(films) if set(film.labels) & set(REAL_LABELS[kind])]
        found = sum(kind in claims[i] for i in labelled)
        rows[kind] = RealRow(
            labelled=len(labelled),
            sensitivity=round(found / len(labelled), 4) if labelled else None,
            auc=area_under_curve(drafts.presence[labelled, channel], drafts.presence[normal, channel]),
            normal_films=len(normal),
            claimed_on_normal=round(sum(kind in claims[i] for i in normal) / max(1, len(normal)), 4),
        )
    anything = sum(bool(claims[i]) for i in normal) / max(1, len(normal))
    rows["any"] = RealRow(0, None, None, len(normal), round(anything, 4))
    return rows


def _score_table(title: str, score: Score) -> str:
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


def _real_table(rows: RealTable) -> str:
    lines = [
        "real films of held-back patients",
        f"  {'finding':<26}{'labelled':>9}{'sensitivity':>13}{'AUC':>8}{'claimed on normal':>20}",
    ]
    for kind, row in rows.items():
        sensitivity, auc = ("-" if x is None else f"{x:.3f}" for x in (row.sensitivity, row.auc))
        lines.append(f"  {kind:<26}{row.labelled:>9}{sensitivity:>13}{auc:>8}{row.claimed_on_normal:>20.3f}")
    return "\n".join(lines)


def check_bars(score: Score, shuffled: Score, real: RealTable | None) -> list[str]:
    """The bars that are missed, in words; empty when the model may ship."""
    measured = {"least_f1": min(kind.f1 for kind in score.kinds.values())}
    measured |= {name: getattr(score, name) for name in BARS if name != "least_f1"}
    missed = [
        f"{name} {measured[name]:.3f} below {bar}" for name, bar in BARS.items() if measured[name] < bar
    ]
    if shuffled.macro_f1 > MOST_SHUFFLED_F1:
        missed.append(f"shuffled F1 {shuffled.macro_f1:.3f} above {MOST_SHUFFLED_F1}")
    claimed = {kind: real[kind].claimed_on_normal for kind in KINDS} if real else {}
    missed += [
        f"{kind} claimed on {share:.3f} of real normal films"
        for kind, share in claimed.items()
        if share > MOST_REAL_CLAIMS
    ]
    return missed


def main() -> None:
    """Measure and print; exit status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--studies", type=int, default=600)
    parser.add_argument("--shared", type=Path, default=None, help="folder that holds data/nih")
    chosen = parser.parse_args()
    network, tokenizer = load_mini(chosen.model), load_tokenizer(chosen.model)
    score, shuffled = evaluate_simulated(network, tokenizer, chosen.studies)
    print(_score_table(f"{chosen.studies} simulated studies, poses held out", score))
    print(f"reports held against the next study's film: macro F1 {shuffled.macro_f1:.3f}")
    result: dict[str, object] = {"simulated": score.to_dict(), "shuffled_macro_f1": shuffled.macro_f1}
    real = None
    if chosen.shared:
        inserted = evaluate_inserted(network, tokenizer, chosen.shared)
        real = evaluate_real(network, tokenizer, chosen.shared)
        print(_score_table("simulated findings in real normal films of held-back patients", inserted))
        print(_real_table(real))
        result |= {"inserted": inserted.to_dict(), "real": {k: asdict(row) for k, row in real.items()}}
    result["bars_missed"] = check_bars(score, shuffled, real)
    print(json.dumps(result, allow_nan=False))
    raise SystemExit(1 if result["bars_missed"] else 0)


if __name__ == "__main__":
    main()
