"""The real films of held-back patients: what the model says of them, beside what a thumbnail and a histogram tell.

Within one source at a time, because the sources differ in size and were collected apart. The linear head is fitted on
the encoder's pooled features of the training patients of both sources; the baseline on the training patients of the
same source. Neither ever sees a held-back patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.families.mini.films import thumbnail_and_histogram
from models.networks.mini import FirstreadMini
from models.runners.encoder import VisionEncoder
from models.training.answering import Ask, Asker
from models.training.logistic import Array, fit_chosen
from models.training.real_films import SOURCES, RealFilm, held_back, load_film, read_source
from models.training.scoring import area_under_curve, share, stated_present
from models.vocabulary.english import KINDS
from models.vocabulary.prompts import prompt_text

LABELS = (
    "Effusion",
    "Cardiomegaly",
    "No Finding",
    "Pneumothorax",
    "Consolidation",
    "Nodule",
    "Mass",
    "Infiltration",
)
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
NORMAL_LABEL = "No Finding"
FEWEST = 5
"""Labelled held-back films below which no area is given: it would say nothing."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Areas under the curve for one published label, of ``films`` with it against all other films of the source."""

    films: int
    others: int
    presence: float | None
    head: float | None
    baseline: float | None


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """What the drafts state of one finding: on films labelled with it, and on films labelled normal."""

    labelled: int
    stated: float | None
    normal_films: int
    claimed_on_normal: float


@dataclass(frozen=True, slots=True)
class Source:
    """One source."""

    labels: dict[str, LabelRow]
    claims: dict[str, ClaimRow]


Real = Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class _Films:
    films: list[RealFilm]
    asker: Asker
    thumbnails: Array

    @property
    def features(self) -> Array:
        """What the linear head reads: the pooled map, the presence scores, and what the baseline reads."""
        presence = self.asker.frontal.presence.flatten(1).numpy()
        parts = [self.asker.pooled.numpy(), presence, self.thumbnails]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @property
    def kept(self) -> NDArray[np.bool_]:
        return np.array([held_back(film.patient) for film in self.films])

    def has(self, *labels: str) -> NDArray[np.bool_]:
        return np.array([bool(set(film.labels) & set(labels)) for film in self.films])

    @property
    def patients(self) -> NDArray[np.int64]:
        return np.array([film.patient for film in self.films])


def _load(
    network: FirstreadMini, tokenizer: Tokenizer, shared: Path, name: str, encoder: VisionEncoder | None
) -> _Films:
    films = list(read_source(shared, name))
    size = network.config.vision.image_size
    pixels = np.stack([load_film(film.path, size) for film in films])
    asker = Asker(network, tokenizer, pixels[:, None], encoder)
    return _Films(films, asker, thumbnail_and_histogram(pixels))


def evaluate_real(
    network: FirstreadMini, tokenizer: Tokenizer, shared: Path, encoder: VisionEncoder | None = None
) -> Real:
    """Both sources; ``encoder`` as in ``Asker``."""
    sources = {name: _load(network, tokenizer, shared, name, encoder) for name in SOURCES}
    return {name: Source(_label_rows(name, sources), _claim_rows(sources[name])) for name in SOURCES}


def _label_rows(name: str, sources: Mapping[str, _Films]) -> dict[str, LabelRow]:
    own, rows = sources[name], {}
    kept = own.kept
    kinds = {label: KINDS.index(kind) for kind, labels in REAL_LABELS.items() for label in labels}
    presence = own.asker.frontal.presence[:, :, 0].numpy()
    for label in LABELS:
        true = own.has(label)[kept]
        if min(true.sum(), (~true).sum()) < FEWEST:
            continue
        scores = presence[kept, kinds[label]] if label in kinds else -presence[kept].max(axis=1)
        rows[label] = LabelRow(
            films=int(true.sum()),
            others=int((~true).sum()),
            presence=area_under_curve(scores[true], scores[~true]),
            head=_fitted(list(sources.values()), own, label, true, deep=True),
            baseline=_fitted([own], own, label, true, deep=False),
        )
    return rows


def _fitted(
    training: Sequence[_Films], own: _Films, label: str, true: NDArray[np.bool_], *, deep: bool
) -> float | None:
    """The area on the held-back films of ``own`` after fitting on the training patients of ``training``."""
    inputs = [(one.features if deep else one.thumbnails)[~one.kept] for one in training]
    target = np.concatenate([one.has(label)[~one.kept] for one in training])
    if not target.any() or target.all():
        return None
    patients = np.concatenate([one.patients[~one.kept] for one in training])
    fitted = fit_chosen(np.concatenate(inputs), target, patients.tolist())
    scores = fitted.logits((own.features if deep else own.thumbnails)[own.kept])
    return area_under_curve(scores[true], scores[~true])


def _claim_rows(source: _Films) -> dict[str, ClaimRow]:
    kept = np.flatnonzero(source.kept)
    texts = source.asker.answer([Ask(int(index), prompt_text("report", "en")) for index in kept])
    claims = [set(stated_present(text) or {}) for text in texts]
    normal = [place for place, index in enumerate(kept) if source.films[index].normal]
    rows = {}
    for kind in KINDS:
        labelled = np.flatnonzero(source.has(*REAL_LABELS[kind])[kept])
        stated = share(sum(kind in claims[i] for i in labelled), len(labelled)) if len(labelled) else None
        false = sum(kind in claims[i] for i in normal) / max(1, len(normal))
        rows[kind] = ClaimRow(len(labelled), stated, len(normal), round(false, 4))
    anything = sum(bool(claims[i]) for i in normal) / max(1, len(normal))
    return rows | {"any": ClaimRow(0, None, len(normal), round(anything, 4))}


def real_tables(real: Real) -> str:
    """Both tables of every source."""
    lines = []
    for name, source in real.items():
        lines.append(
            f"real films of held-back patients, source {name}: area under the curve, label against the rest"
        )
        lines.append(
            f"  {'label':<16}{'films':>6}{'others':>8}{'presence':>10}{'linear head':>13}{'baseline':>10}"
        )
        for label, row in source.labels.items():
            areas = ["-" if x is None else f"{x:.3f}" for x in (row.presence, row.head, row.baseline)]
            lines.append(
                f"  {label:<16}{row.films:>6}{row.others:>8}{areas[0]:>10}{areas[1]:>13}{areas[2]:>10}"
            )
        lines.append(f"  {'drafts state':<26}{'labelled':>9}{'of these':>10}{'of normal films':>17}")
        for kind, claim in source.claims.items():
            stated = "-" if claim.stated is None else f"{claim.stated:.3f}"
            lines.append(f"  {kind:<26}{claim.labelled:>9}{stated:>10}{claim.claimed_on_normal:>17.3f}")
    return "\n".join(lines)
