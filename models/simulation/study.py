"""Render one simulated study, a frontal film with or without a lateral and a prior one: :func:`render_study`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.simulation.anatomy import FilmAnatomy, read_anatomy, show_anatomy
from models.simulation.film import (
    KIND_SHARE,
    DrawnFilm,
    SimulatedFilm,
    choose_kinds,
    choose_pose,
    describe,
    draw_chest,
    draw_view,
    expose_view,
    write_film,
)
from models.simulation.lateral import HAS_DEPTH, draw_lateral
from models.simulation.lesions import DRAW, Chest, Insertion
from models.simulation.maps import LateralMaps, PoseMaps, load_lateral, load_pose
from models.vocabulary.english import CHANGES

LATERAL_SHARE, PRIOR_SHARE = 0.4, 0.5
CHANGE_SHARE = {"new": 0.3, "unchanged": 0.3, "increased": 0.2, "decreased": 0.2}
PRIOR_SCALE = {"increased": (0.45, 0.65), "decreased": (1.5, 1.9)}
"""Size of a finding on the prior film, of its size now."""
DEVICES = ("pacemaker", "central_venous_catheter")


@dataclass(frozen=True, slots=True)
class LateralFilm:
    """A lateral film of 12-bit pixels, the front of the patient on the left.

    ``kinds`` and ``depths`` (anterior, posterior or "") name what can be seen, ``masks`` [n, rows, columns] where.
    """

    pixels: NDArray[np.uint16]
    kinds: tuple[str, ...]
    depths: tuple[str, ...]
    masks: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SimulatedStudy:
    """A frontal film with what is on it, where its organs lie, and the other films where there are any.

    The findings of ``frontal`` have a ``change`` where there is a ``prior`` film, and a ``depth`` where the lateral
    shows it.
    """

    frontal: SimulatedFilm
    anatomy: FilmAnatomy
    lateral: LateralFilm | None
    prior: NDArray[np.uint16] | None


def _prior_look(
    maps: PoseMaps, drawn: DrawnFilm, index: int, change: str, generator: np.random.Generator
) -> Insertion | None:
    """A finding as it was before ``change``."""
    insertion = drawn.placed[index]
    if change == "new":
        return None
    if change == "unchanged":
        return insertion
    again = np.random.default_rng()
    again.bit_generator.state = drawn.states[index]
    chest = Chest(maps, again, float(generator.uniform(*PRIOR_SCALE[change])), insertion.place)
    return DRAW[insertion.kind](chest, insertion.side or 0)


def _changes(drawn: DrawnFilm, visible: list[int], generator: np.random.Generator) -> dict[int, str]:
    """A change for every visible finding; the sides of one kind change together."""
    of_kind: dict[str, str] = {}
    for index in visible:
        kind = drawn.placed[index].kind
        if kind not in of_kind:
            change = str(generator.choice(CHANGES, p=[CHANGE_SHARE[change] for change in CHANGES]))
            if kind in DEVICES and change in PRIOR_SCALE:
                change = "unchanged"
            of_kind[kind] = change
    return {index: of_kind[drawn.placed[index].kind] for index in visible}


def _render_prior(
    maps: PoseMaps,
    drawn: DrawnFilm,
    visible: list[int],
    size: int,
    generator: np.random.Generator,
    framed: bool,
) -> tuple[NDArray[np.uint16], dict[int, str]]:
    """The prior film, and the change of every visible finding: what the prior film does not show is new."""
    changes = _changes(drawn, visible, generator)
    looks = {i: _prior_look(maps, drawn, i, change, generator) for i, change in changes.items()}
    known = [(index, look) for index, look in looks.items() if look is not None]
    base = drawn.base * float(generator.uniform(0.94, 1.06))
    view = draw_view(maps, size, generator, framed)
    shown = expose_view(base.astype(np.float32), [look for _, look in known], view, generator)
    seen = {known[place][0] for place in shown.visible}
    return shown.pixels, {index: change if index in seen else "new" for index, change in changes.items()}


def _render_lateral(
    maps: LateralMaps, drawn: DrawnFilm, visible: list[int], size: int, generator: np.random.Generator
) -> tuple[LateralFilm, dict[int, str]]:
    """The lateral film, and the depth of every frontal finding for which it shows one."""
    placed = [drawn.placed[index] for index in visible]
    found = draw_lateral(maps, placed, generator)
    base = (maps.total * generator.uniform(0.88, 1.12)).astype(np.float32)
    view = draw_view(maps, size, generator, False)
    shown = expose_view(base, [one.insertion for one in found], view, generator)
    seen = [found[place] for place in shown.visible]
    depths = {visible[one.index]: one.depth for one in seen if one.insertion.kind in HAS_DEPTH}
    film = LateralFilm(
        shown.pixels,
        tuple(one.insertion.kind for one in seen),
        tuple(one.depth for one in seen),
        shown.masks[shown.visible],
    )
    return film, depths


def render_study_from(
    maps: PoseMaps,
    side: LateralMaps | None,
    kinds: tuple[str, ...],
    size: int,
    generator: np.random.Generator,
    *,
    prior: bool,
    framed: bool = False,
) -> SimulatedStudy:
    """Render ``kinds`` on ``maps``, with a lateral film where ``side`` gives its maps; ``framed`` as in render_from."""
    drawn = draw_chest(maps, kinds, generator, framed=framed)
    view = draw_view(maps, size, generator, framed)
    shown = expose_view(drawn.base, drawn.placed, view, generator)
    changes: Mapping[int, str] = {}
    depths: Mapping[int, str] = {}
    earlier = lateral = None
    if prior:
        earlier, changes = _render_prior(maps, drawn, shown.visible, size, generator, framed)
    if side is not None:
        lateral, depths = _render_lateral(side, drawn, shown.visible, size, generator)
    findings = tuple(
        replace(
            describe(drawn.placed[index], shown.masks[index]),
            change=changes.get(index, ""),
            depth=depths.get(index, ""),
        )
        for index in shown.visible
    )
    hearts = [
        p.covered for i, p in enumerate(drawn.placed) if p.kind == "cardiomegaly" and i in shown.visible
    ]
    anatomy = show_anatomy(read_anatomy(maps, hearts[0] if hearts else None), view)
    return SimulatedStudy(write_film(shown, findings, generator), anatomy, lateral, earlier)


def render_study(
    seed: int,
    *,
    size: int = 512,
    kinds: tuple[str, ...] | None = None,
    held_out: bool = False,
    lateral: bool | None = None,
    prior: bool | None = None,
    shares: tuple[float, ...] = KIND_SHARE,
) -> SimulatedStudy:
    """Render the study of ``seed``: the same seed and arguments give the same films.

    ``kinds`` and ``held_out`` as in :func:`models.simulation.film.render`; ``shares`` says how often each of KINDS is
    drawn. ``lateral`` and ``prior`` None draw whether there is one.
    """
    generator = np.random.default_rng([seed, int(held_out), 2])
    pose = choose_pose(generator, held_out)
    asked = choose_kinds(generator, shares) if kinds is None else kinds
    chances = generator.random(2)
    with_lateral = bool(chances[0] < LATERAL_SHARE) if lateral is None else lateral
    with_prior = bool(chances[1] < PRIOR_SHARE) if prior is None else prior
    side = load_lateral(pose) if with_lateral else None
    return render_study_from(load_pose(pose), side, asked, size, generator, prior=with_prior)
