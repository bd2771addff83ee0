"""Render one simulated frontal chest film with its findings, boxes and report: :func:`render`."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.simulation.lesions import DRAW, LEFT, RIGHT, Chest, Insertion, heart_scaled
from models.simulation.maps import (
    HELD_OUT_POSES,
    FloatMap,
    LateralMaps,
    PoseMaps,
    bounding_box,
    load_pose,
    pose_count,
)
from models.vocabulary.english import KINDS, SIDES, FindingFact, write_sections

MAX_VALUE = 4095
KIND_SHARE = (0.19, 0.17, 0.16, 0.16, 0.10, 0.09, 0.13)
"""How often each of ``KINDS`` is drawn."""
COUNT_SHARE = (0.27, 0.37, 0.24, 0.12)
"""Share of films with no, one, two and three kinds of finding."""
BOTH_SIDES = {"pleural_effusion": 0.22, "consolidation": 0.12}
LEFT_SHARE = {"pacemaker": 0.7, "central_venous_catheter": 0.3}


@dataclass(frozen=True, slots=True)
class FilmFinding:
    """One visible finding: ``side`` is right, left or "" (the heart).

    ``box`` is (x1, y1, x2, y2) in film pixels, far edges exclusive.
    """

    kind: str
    side: str
    severity: str
    zone: str
    box: tuple[int, int, int, int]
    change: str = ""
    depth: str = ""

    @property
    def fact(self) -> FindingFact:
        """The finding as a report states it."""
        return FindingFact(self.kind, self.side, self.severity, self.zone, self.change, self.depth)


@dataclass(frozen=True, slots=True)
class SimulatedFilm:
    """A film of 12-bit pixels [rows, columns], air dark, the patient's right on the left, and what is on it."""

    pixels: NDArray[np.uint16]
    findings: tuple[FilmFinding, ...]
    masks: NDArray[np.bool_]
    findings_text: str
    impression_text: str


@dataclass(frozen=True, slots=True)
class FilmView:
    """Where each film pixel lies on the maps ([size, size, 2], -1 to 1) and how the detector shows it."""

    grid: torch.Tensor
    noise: float
    low: float
    high: float
    gamma: float


def choose_kinds(generator: np.random.Generator, shares: tuple[float, ...] = KIND_SHARE) -> tuple[str, ...]:
    """Kinds of one film, none to three."""
    count = int(generator.choice(len(COUNT_SHARE), p=COUNT_SHARE))
    return tuple(KINDS[i] for i in generator.choice(len(KINDS), count, replace=False, p=shares))


def _sides(kind: str, generator: np.random.Generator) -> tuple[int, ...]:
    if generator.random() < BOTH_SIDES.get(kind, 0.0):
        return RIGHT, LEFT
    return (LEFT if generator.random() < LEFT_SHARE.get(kind, 0.5) else RIGHT,)


def place_findings(chest: Chest, kinds: tuple[str, ...]) -> tuple[list[Insertion], list[dict[str, Any]]]:
    """Draw every kind on its side or sides; effusions first, because they take air from what follows.

    Returns what was drawn, and the state of the chest's generator before each.
    """
    placed, states = [], []
    for kind in sorted(kinds, key=lambda name: name != "pleural_effusion"):
        sides = (RIGHT,) if kind == "cardiomegaly" else _sides(kind, chest.generator)
        for side in sides:
            state = dict(chest.generator.bit_generator.state)
            drawn = DRAW[kind](chest, side)
            if drawn is not None:
                placed.append(drawn)
                states.append(state)
    return placed, states


def soft_tissue_limit(insertion: Insertion, maps: PoseMaps) -> Insertion:
    """Keep fluid and heart no denser than the heart already is on a film, whose grey levels saturate there."""
    if insertion.kind not in ("pleural_effusion", "consolidation", "cardiomegaly"):
        return insertion
    cardiac = maps.heart > 60
    level = float(np.median(maps.total[cardiac])) if cardiac.any() else float(np.quantile(maps.total, 0.8))
    room = np.maximum(level + 0.2 - maps.total, 0.1 * insertion.added)
    return replace(insertion, added=np.minimum(insertion.added, room))


def draw_view(
    maps: PoseMaps | LateralMaps, size: int, generator: np.random.Generator, framed: bool
) -> FilmView:
    """A field of view around the lungs with a little rotation, stretch and bending.

    The maps of the CT are wider than a film; those of a film (``framed``) are shown nearly whole.
    """
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    angle, stretch = generator.uniform(-0.06, 0.06), generator.uniform(0.93, 1.07)
    zoom = generator.uniform(0.82, 1.06) if framed else generator.uniform(0.64, 0.86)
    cosine, sine = float(np.cos(angle) * zoom), float(np.sin(angle) * zoom)
    bend = torch.from_numpy(generator.uniform(-0.035, 0.035, (1, 2, 4, 4)).astype(np.float32))
    bend = torch.nn.functional.interpolate(bend, size=(size, size), mode="bicubic", align_corners=False)[
        0
    ].permute(1, 2, 0)
    boxes = np.array(maps.extent)
    middle_x = float(boxes[:, 0].min() + boxes[:, 2].max()) / maps.total.shape[1] - 1
    middle_y = float(boxes[:, 1].min() + boxes[:, 3].max()) / maps.total.shape[0] - 1
    if framed:
        middle_x, middle_y = middle_x / 3, middle_y / 3
    shift = generator.uniform(-0.06, 0.06, 2)
    x = (across * cosine - down * sine) * stretch + middle_x + float(shift[0])
    y = across * sine + down * cosine + middle_y + float(shift[1])
    return FilmView(
        grid=torch.stack([x, y], dim=-1) + bend,
        noise=float(generator.uniform(0.001, 0.010)),
        low=float(generator.uniform(0.003, 0.05)),
        high=float(generator.uniform(0.95, 0.998)),
        gamma=float(generator.uniform(0.75, 1.4)),
    )


def warp(stack: FloatMap, view: FilmView) -> FloatMap:
    source = torch.from_numpy(stack)[None]
    warped = torch.nn.functional.grid_sample(
        source, view.grid[None].float(), padding_mode="border", align_corners=False
    )
    result: FloatMap = warped[0].numpy()
    return result


def _window(attenuation: NDArray[np.floating], view: FilmView) -> tuple[float, float]:
    ordered = np.sort(attenuation[::4, ::4].ravel())
    return float(ordered[int(len(ordered) * view.low)]), float(ordered[int(len(ordered) * view.high) - 1])


def _contrast(without: FloatMap, added: FloatMap, mask: NDArray[np.bool_], view: FilmView) -> float:
    """How far a finding stands out of what lies around it: mean change shown over noise and anatomy's own unrest."""
    low, high = _window(without, view)
    span = high - low
    before, after = (np.clip((image[mask] - low) / span, 0, 1) for image in (without, without + added))
    change = float(np.abs(after - before).mean())
    noise = view.noise * float(np.exp(min(float(np.median(without[mask])), 8.0) / 2)) / span
    reach = 2 + int(np.sqrt(mask.sum()) / 4)
    x1, y1, x2, y2 = (int(edge) for edge in bounding_box(mask))
    around = without[max(0, y1 - reach) : y2 + reach, max(0, x1 - reach) : x2 + reach]
    steps = np.concatenate([np.diff(around[::reach, ::reach], axis=axis).ravel() for axis in (0, 1)])
    unrest = float(np.median(np.abs(steps))) / span if len(steps) else 0.0
    return change / (0.02 + 0.6 * noise + 0.35 * unrest)


MIN_CONTRAST = {
    "nodule": 1.3,
    "consolidation": 1.6,
    "pleural_effusion": 1.2,
    "pneumothorax": 0.47,
    "cardiomegaly": 0.5,
    "pacemaker": 1.0,
    "central_venous_catheter": 1.4,
}
"""A finding below its contrast is taken off the film and not labelled: nobody could see it."""
MIN_PIXELS_SHARE = 0.0004


def keep_visible(
    base: FloatMap, added: FloatMap, masks: NDArray[np.bool_], placed: list[Insertion], view: FilmView
) -> list[int]:
    """Indexes of the findings that can be seen in the film."""
    total = base + added.sum(axis=0)
    visible = []
    for index, insertion in enumerate(placed):
        mask = masks[index]
        if mask.sum() < MIN_PIXELS_SHARE * mask.size:
            continue
        shown = _contrast(total - added[index], added[index], mask, view)
        if shown >= MIN_CONTRAST[insertion.kind]:
            visible.append(index)
    return visible


def expose(attenuation: FloatMap, view: FilmView, generator: np.random.Generator) -> NDArray[np.uint16]:
    """Add quantum noise (stronger where less light arrives), then window to 12 bits."""
    sigma = np.exp(np.minimum(attenuation, 8) / 2) * view.noise
    noisy = attenuation + generator.standard_normal(attenuation.shape).astype(np.float32) * sigma
    low, high = _window(noisy, view)
    shown = np.clip((noisy - low) / (high - low), 0, 1) ** view.gamma
    return np.rint(shown * MAX_VALUE).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class DrawnFilm:
    """A chest before the detector: attenuation without findings, the findings, and the generator before each."""

    base: FloatMap
    placed: list[Insertion]
    states: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Exposed:
    """A film of 12-bit pixels, the indexes of the findings that can be seen in it, and the mask of every finding."""

    pixels: NDArray[np.uint16]
    visible: list[int]
    masks: NDArray[np.bool_]


def draw_chest(
    maps: PoseMaps, kinds: tuple[str, ...], generator: np.random.Generator, *, framed: bool
) -> DrawnFilm:
    """Draw ``kinds`` on ``maps``; ``framed`` as in :func:`render_from`."""
    chest = Chest(maps, generator)
    placed, states = place_findings(chest, kinds)
    if framed:
        placed = [soft_tissue_limit(insertion, maps) for insertion in placed]
    base = maps.total * generator.uniform(0.88, 1.12) + 0.25 * chest.smooth_noise(4) * generator.uniform(
        0.1, 1
    )
    if "cardiomegaly" not in kinds and not framed:
        base = base + heart_scaled(chest, generator.uniform(0.88, 1.06))
    return DrawnFilm(base, placed, states)


def expose_view(
    base: FloatMap, placed: list[Insertion], view: FilmView, generator: np.random.Generator
) -> Exposed:
    """Show ``base`` with those of ``placed`` that can be seen."""
    layers = [base, *(p.added for p in placed), *(p.covered.astype(np.float32) for p in placed)]
    warped = warp(np.stack(layers).astype(np.float32), view)
    added, masks = warped[1 : 1 + len(placed)], warped[1 + len(placed) :] > 0.5
    visible = keep_visible(warped[0], added, masks, placed, view)
    return Exposed(expose(warped[0] + added[visible].sum(axis=0), view, generator), visible, masks)


def render_from(
    maps: PoseMaps, kinds: tuple[str, ...], size: int, generator: np.random.Generator, *, framed: bool = False
) -> SimulatedFilm:
    """Render ``kinds`` on ``maps`` as a film of ``size`` x ``size`` pixels; findings that cannot be seen are left out.

    ``framed`` says that the maps are those of a film: they are shown nearly whole and their heart is left as it is.
    """
    drawn = draw_chest(maps, kinds, generator, framed=framed)
    view = draw_view(maps, size, generator, framed)
    shown = expose_view(drawn.base, drawn.placed, view, generator)
    findings = tuple(describe(drawn.placed[index], shown.masks[index]) for index in shown.visible)
    return write_film(shown, findings, generator)


def write_film(
    shown: Exposed, findings: tuple[FilmFinding, ...], generator: np.random.Generator
) -> SimulatedFilm:
    """The film with the text of what can be seen on it."""
    chooser = random.Random(int(generator.integers(2**31)))  # noqa: S311 - wording, not secrets
    texts = write_sections([f.fact for f in findings], chooser)
    return SimulatedFilm(shown.pixels, findings, shown.masks[shown.visible], *texts)


def describe(insertion: Insertion, mask: NDArray[np.bool_]) -> FilmFinding:
    """What is drawn, with its box on the film."""
    x1, y1, x2, y2 = (int(edge) for edge in bounding_box(mask))
    side = "" if insertion.side is None else SIDES[insertion.side]
    return FilmFinding(insertion.kind, side, insertion.severity, insertion.zone, (x1, y1, x2, y2))


def choose_pose(generator: np.random.Generator, held_out: bool) -> int:
    """One of the poses for training, or one of those that training never sees."""
    known = pose_count() - HELD_OUT_POSES
    return int(generator.integers(known, known + HELD_OUT_POSES) if held_out else generator.integers(known))


def render(
    seed: int, *, size: int = 512, kinds: tuple[str, ...] | None = None, held_out: bool = False
) -> SimulatedFilm:
    """Render the film of ``seed``: the same seed and arguments give the same film.

    ``kinds`` asks for these findings (each on a random side; one that could not be seen is left out); None draws none
    to three. ``held_out`` takes one of the poses that training never sees.
    """
    generator = np.random.default_rng([seed, int(held_out)])
    pose = choose_pose(generator, held_out)
    asked = choose_kinds(generator) if kinds is None else kinds
    return render_from(load_pose(pose), asked, size, generator)
