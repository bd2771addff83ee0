"""The real films of held-back patients: ``python -m models.training.evaluate_real --shared DIR --cache DIR``.

What the shipped rule ranks beside two baselines (a linear rule on an 8 x 8 thumbnail and a histogram, and a small
network that learned from nothing), what the drafts then say, in their own words, and which films are declined.
Baselines are taught by the same films as the rule and chosen over the same folds; no held-back patient taught anything,
and nothing is chosen here. Labels are compared inside a collection only. Prints tables, the bars, and last one line of
JSON; exit status 1 if a bar is missed.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.drafting.findings_text import parse_draft
from models.families.mini.certainty import RealReader
from models.families.mini.films import ABNORMAL, RULED
from models.networks.mini import load_mini, load_tokenizer
from models.training.answering import Ask, Asker
from models.training.bars import AREA_BARS, DECLINED_BAR, FALSE_BAR, NORMAL_BAR, STATED_BARS, Bar
from models.training.film_readings import Readings, read_all
from models.training.real_plot import draw_real
from models.training.real_sources import CHILDREN, LABELS, LEARNED_FROM, NORMAL_LABEL, load_film
from models.training.small_network import small_network_scores
from models.training.within import (
    FOLDS,
    Array,
    Bools,
    fit_within,
    rank_interval,
    rank_within,
    share_interval,
)
from models.vocabulary.english import NO_ABNORMALITY
from models.vocabulary.hedges import UNSURE_IMPRESSION
from models.vocabulary.prompts import prompt_text

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "firstread-mini"
HEDGES = ("may be", "Possible")
SCORES = ("rule", "presence", "thumbnail", "small network")


@dataclass(frozen=True, slots=True)
class Draft:
    """What one draft says: kinds stated outright, kinds called possible, and whether it calls the film normal."""

    stated: frozenset[str]
    possible: frozenset[str]
    normal: bool
    unsure: bool


def read_draft(text: str) -> Draft:
    """Read a report in English. Raises FailStudy for one that cannot be read."""
    parsed = parse_draft(text)
    present = [finding for finding in parsed.findings if finding.present]
    hedged = {one.kind for one in present if any(mark in one.sentence for mark in HEDGES)}
    return Draft(
        frozenset(one.kind for one in present) - hedged,
        frozenset(hedged),
        parsed.impression_text == NO_ABNORMALITY,
        parsed.impression_text == UNSURE_IMPRESSION["en"],
    )


def write_drafts(model: Path, readings: Readings, rows: NDArray[np.int64]) -> list[Draft]:
    """The English reports of the films at ``rows``, as the family writes them."""
    network = load_mini(model)
    size = network.config.vision.image_size
    pixels = np.stack([load_film(readings.films[row].path, size) for row in rows])
    asker = Asker(network, load_tokenizer(model), pixels[:, None], None, RealReader.of(model))
    prompt = prompt_text("report", "en")
    return [read_draft(text) for text in asker.answer([Ask(row, prompt) for row in range(len(rows))])]


def score_columns(readings: Readings, logits: NDArray[np.float32], cache: Path, finding: str) -> list[Array]:
    """The scores of ``SCORES`` for every film; of the presence of "abnormal" the highest of all kinds.

    ``logits`` [n, RULED] are the rule's.
    """
    place = RULED.index(finding)
    presence = readings.arrays["presence"][:, :, 0].astype(np.float64)
    true, known = readings.truth(finding)
    rows = np.flatnonzero(known & ~readings.held_back)
    thumbnails = readings.arrays["thumbnail"].astype(np.float64)
    mean, scale = thumbnails[rows].mean(axis=0), thumbnails[rows].std(axis=0) + 1e-6
    thumbnails = (thumbnails - mean) / scale / thumbnails.shape[1] ** 0.5
    folds = np.array([film.fold(FOLDS) for film in readings.films])
    (plain,) = fit_within(thumbnails[rows], true[None, rows], readings.collections[rows], folds[rows])
    return [
        logits[:, place].astype(np.float64),
        presence.max(axis=1) if finding == ABNORMAL else presence[:, place],
        thumbnails @ plain.weights,
        small_network_scores(readings, cache)[:, list(LABELS).index(finding)],
    ]


def area_rows(readings: Readings, model: Path, cache: Path) -> list[dict[str, object]]:
    """Areas under the curve of every finding, over all collections and in each, with intervals."""
    rule, told = RealReader.of(model).rule, list[dict[str, object]]()
    if rule is None:
        raise ValueError("these weights hold no rule of real films: run models.training.fit_films")
    logits = rule.logits(readings.arrays)
    for finding in AREA_BARS:
        true, known = readings.truth(finding)
        columns = score_columns(readings, logits, cache, finding)
        where = [name for name, findings in LEARNED_FROM.items() if finding in findings]
        for name in ("all", *where):
            rows = known & readings.held_back & ((readings.collections == name) | (name == "all"))
            told.append({"finding": finding, "collection": name, **_areas(readings, columns, true, rows)})
    return told


def _areas(readings: Readings, columns: Sequence[Array], true: Bools, rows: Bools) -> dict[str, object]:
    areas = [rank_within(one[rows], true[rows], readings.collections[rows]) for one in columns]
    row: dict[str, object] = {"labelled": int(true[rows].sum()), "others": int((~true[rows]).sum())}
    row |= dict(zip(SCORES, areas, strict=True))
    if areas[0] is None:
        return row
    better = 2 if (areas[2] or 0.0) >= (areas[3] or 0.0) else 3
    intervals = rank_interval(
        [columns[0][rows], columns[better][rows]],
        true[rows],
        readings.collections[rows],
        readings.patients[rows],
    )
    return row | ({"interval": intervals[0], "over baseline": intervals[2]} if intervals else {})


def claim_rows(
    readings: Readings, drafts: Sequence[Draft], held: NDArray[np.int64]
) -> list[dict[str, object]]:
    """Per finding, how many films with the label a draft states it on, or calls it possible; and of those without."""
    told = []
    for finding in (one for one in AREA_BARS if one != ABNORMAL):
        true, known = readings.truth(finding)
        row: dict[str, object] = {"finding": finding}
        for name, side in (("labelled", true), ("unlabelled", ~true)):
            rows = known[held] & side[held]
            some = [draft for draft, taken in zip(drafts, rows, strict=True) if taken]
            written = [finding in draft.stated | draft.possible for draft in some]
            row |= {
                name: len(some),
                f"{name} stated": _share([finding in draft.stated for draft in some]),
                f"{name} stated or possible": _share(written),
                f"{name} 95 %": share_interval(np.array(written, bool), readings.patients[held][rows]),
            }
        normal = [
            draft
            for draft, film in zip(drafts, held, strict=True)
            if NORMAL_LABEL in readings.films[film].labels
        ]
        told.append(
            row | {"claimed on normal": _share([finding in one.stated | one.possible for one in normal])}
        )
    return told


def normal_row(readings: Readings, drafts: Sequence[Draft], held: NDArray[np.int64]) -> dict[str, object]:
    """How many films labelled abnormal, and how many labelled normal, are called normal."""
    true, known = readings.truth(ABNORMAL)
    row: dict[str, object] = {}
    for name, side in (("abnormal", true), ("normal", ~true)):
        rows = known[held] & side[held]
        some = [draft for draft, taken in zip(drafts, rows, strict=True) if taken]
        called = np.array([draft.normal for draft in some], bool)
        row |= {
            name: len(some),
            f"{name} called normal": _share([draft.normal for draft in some]),
            f"{name} 95 %": share_interval(called, readings.patients[held][rows]),
            f"{name} left open": _share([draft.unsure for draft in some]),
        }
    return row


def _share(said: Sequence[bool]) -> float | None:
    return round(sum(said) / len(said), 4) if said else None


def declined_rows(readings: Readings, model: Path) -> list[dict[str, object]]:
    """Films declined, and read as simulated ones, by source: of held-back patients, and of all."""
    domain = RealReader.of(model).domain
    if domain is None:
        return []
    known = domain.known(readings.arrays["pooled"])
    drawn = domain.simulated(readings.arrays["pooled"]) & known
    sources = np.array([film.source for film in readings.films])
    told = []
    for name in dict.fromkeys(sources.tolist()):
        rows = sources == name
        held = rows & readings.held_back
        told.append(
            {
                "source": name,
                "films": int(rows.sum()),
                "declined": round(float((~known[rows]).mean()), 4),
                "held back": int(held.sum()),
                "held back declined": round(float((~known[held]).mean()), 4) if held.any() else None,
                "read as simulated": int(drawn[rows].sum()),
            }
        )
    return told


def real_bars(
    areas: Sequence[dict[str, object]],
    claims: Sequence[dict[str, object]],
    normal: dict[str, object],
    declined: Sequence[dict[str, object]],
) -> list[Bar]:
    """The bars on real films. The labels are text-mined: what they miss counts as false here."""
    bars = [
        Bar(f"AUC of {row['finding']}", AREA_BARS[str(row["finding"])], _number(row["rule"]))
        for row in areas
        if row["collection"] == "all"
    ]
    for row in claims:
        finding = str(row["finding"])
        if finding in STATED_BARS:
            said = _number(row["labelled stated or possible"])
            bars.append(Bar(f"{finding}: written, of films labelled", STATED_BARS[finding], said))
        false = _number(row["unlabelled stated or possible"])
        bars.append(Bar(f"{finding}: written, of films without the label", FALSE_BAR, false, most=True))
    bars.append(
        Bar(
            "called normal, of films labelled abnormal",
            NORMAL_BAR,
            _number(normal["abnormal called normal"]),
            most=True,
        )
    )
    adults = [row for row in declined if row["source"] != CHILDREN]
    bars += [
        Bar(
            f"declined, of adult films of {row['source']}",
            DECLINED_BAR,
            _number(row["held back declined"]),
            most=True,
        )
        for row in adults
    ]
    return bars


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _table(rows: Sequence[dict[str, object]]) -> str:
    """Rows of figures under their names."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    return "\n".join(
        "  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "{:+.3f} to {:+.3f}".format(*value)
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def evaluate_real(model: Path, shared: Path, cache: Path, plot: Path | None = None) -> list[Bar]:
    """Measure and print, and draw into ``plot``; the bars."""
    readings = read_all(model, shared, cache)
    areas = area_rows(readings, model, cache)
    print(
        "area under the curve, held-back patients, each label inside its collections; 95 % intervals over patients"
    )
    print(_table(areas), flush=True)
    said = np.any([readings.truth(finding)[1] for finding in AREA_BARS], axis=0)
    held = np.flatnonzero(readings.held_back & said)
    drafts = write_drafts(model, readings, held)
    claims, normal = claim_rows(readings, drafts, held), normal_row(readings, drafts, held)
    declined = declined_rows(readings, model)
    for title, rows in (
        ("what the drafts write", claims),
        ("drafts that call the film normal", [normal]),
        ("films declined", declined),
    ):
        print(title)
        print(_table(rows))
    if plot is not None:
        draw_real(areas, claims, plot)
    bars = real_bars(areas, claims, normal, declined)
    print("bars on real films")
    print("\n".join(str(bar) for bar in bars), flush=True)
    measured = {"areas": areas, "claims": claims, "normal": normal, "declined": declined}
    print(json.dumps({**measured, "bars_missed": [bar.name for bar in bars if not bar.held]}))
    return bars


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder that keeps what was read of the films"
    )
    parser.add_argument("--plot", type=Path, default=None, help="SVG file to draw the figures into")
    chosen = parser.parse_args()
    bars = evaluate_real(chosen.model, chosen.shared, chosen.cache, chosen.plot)
    raise SystemExit(0 if all(bar.held for bar in bars) else 1)


if __name__ == "__main__":
    main()
