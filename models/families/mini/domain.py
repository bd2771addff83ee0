"""Whether a film is like those that firstread-mini learned from: a distance in the encoder's pooled features.

Known films form a few groups (simulated frontals, simulated laterals, the real sources, and children, to be declined).
Each group is a Gaussian whose covariance is shrunk to its leading directions and one variance for all the rest
(probabilistic PCA: Tipping and Bishop, J. R. Stat. Soc. B 61, 1999). A film's score is the Mahalanobis distance to its
nearest group over that group's own threshold: above 1 the model declines. Numpy alone; the statistics are fitted by
``models.training.fit_domain``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.errors import SkipStudy, StopRun

DOMAIN_FILE = "domain.safetensors"
CHILDREN, SIMULATED = "children", "simulated"
"""The group of children's films, of which nothing was learned, and how names of groups of simulated films begin."""
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """One group of known films in standardised features.

    ``centre`` [d]; ``directions`` [d, k], orthonormal; ``spread`` [k], the standard deviation along each; ``rest``,
    that of every other direction; ``threshold``, the distance beyond which a film is unlike this group.
    """

    centre: Array
    directions: Array
    spread: Array
    rest: float
    threshold: float

    def distance(self, features: Array) -> Array:
        """Mahalanobis distance of each row of ``features`` [n, d], over the root of d."""
        offset = features - self.centre
        along = offset @ self.directions
        beside = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squared = ((along / self.spread) ** 2).sum(axis=1) + beside / self.rest**2
        distance: Array = np.sqrt(squared / features.shape[1]).astype(np.float32)
        return distance


@dataclass(frozen=True, slots=True)
class Domain:
    """What the model knows: ``mean`` and ``scale`` [d] standardise the pooled features; ``groups`` by name."""

    mean: Array
    scale: Array
    groups: dict[str, Group]

    def score(self, pooled: Array) -> Array:
        """Unlikeness of each row of ``pooled`` [n, d]: 1 is the threshold, more is declined."""
        features = (pooled - self.mean) / self.scale
        scores: Array = np.min(
            [group.distance(features) / group.threshold for group in self.groups.values()], axis=0
        )
        return scores

    def known(self, pooled: Array) -> NDArray[np.bool_]:
        """Which rows of ``pooled`` [n, d] are like the training films."""
        within: NDArray[np.bool_] = (self.score(pooled) <= 1) & ~self.childlike(pooled)
        return within

    def refusal(self, pooled: Array) -> SkipStudy | None:
        """Why a study of these films ([films, width]) is not read; None where it is."""
        if self.childlike(pooled).any():
            return SkipStudy("child", "a film looks like a child's, and this model learned from adults alone")
        if not self.known(pooled).all():
            message = "a film of the study is unlike the chest films this model learned from"
            return SkipStudy("unlike-training", message)
        return None

    def childlike(self, pooled: Array) -> NDArray[np.bool_]:
        """Which rows of ``pooled`` [n, d] are nearer to children's films than to any other."""
        return np.array([name == CHILDREN for name in self.nearest(pooled)], bool)

    def nearest(self, pooled: Array) -> list[str]:
        """The name of the group that each row of ``pooled`` [n, d] is nearest to."""
        features, names = (pooled - self.mean) / self.scale, list(self.groups)
        distances = [group.distance(features) / group.threshold for group in self.groups.values()]
        return [names[int(place)] for place in np.argmin(distances, axis=0)]

    def simulated(self, pooled: Array) -> NDArray[np.bool_]:
        """Which rows of ``pooled`` [n, d] are nearer to simulated films than to real ones."""
        return np.array([name.startswith(SIMULATED) for name in self.nearest(pooled)], bool)

    def save(self, folder: Path) -> None:
        """Write ``domain.safetensors`` beside the weights."""
        arrays = {"mean": self.mean, "scale": self.scale}
        for name, group in self.groups.items():
            arrays |= {
                f"{name}.centre": group.centre,
                f"{name}.directions": group.directions,
                f"{name}.spread": group.spread,
                f"{name}.limits": np.array([group.rest, group.threshold]),
            }
        plain = {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()}
        save_file(plain, folder / DOMAIN_FILE)
        (folder / DOMAIN_FILE).chmod(0o644)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``domain.safetensors``. Raises StopRun where it is missing or not what this code writes."""
        try:
            arrays = load_file(folder / DOMAIN_FILE)
            names = sorted(key.removesuffix(".centre") for key in arrays if key.endswith(".centre"))
            groups = {
                name: Group(
                    arrays[f"{name}.centre"],
                    arrays[f"{name}.directions"],
                    arrays[f"{name}.spread"],
                    *(float(limit) for limit in arrays[f"{name}.limits"]),
                )
                for name in names
            }
            mean, scale = arrays["mean"], arrays["scale"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            message = f"{DOMAIN_FILE} cannot be read ({type(error).__name__}); fit it with models.training.fit_domain"
            raise StopRun("domain", message) from None
        if not groups:
            raise StopRun("domain", f"{DOMAIN_FILE} holds no group; fit it with models.training.fit_domain")
        return cls(mean, scale, groups)


def fit_group(features: Array, directions: int) -> Group:
    """The group of standardised ``features`` [n, d] with ``directions`` leading ones; its threshold is left at 1."""
    centre = features.mean(axis=0)
    _, values, basis = np.linalg.svd(features - centre, full_matrices=False)
    variance = values**2 / max(1, len(features) - 1)
    kept = min(directions, len(variance) - 1)
    rest = variance[kept:].sum() / max(1, features.shape[1] - kept)
    spread = np.sqrt(np.maximum(variance[:kept], rest))
    return Group(centre, np.ascontiguousarray(basis[:kept].T), spread, float(np.sqrt(rest)), 1.0)
