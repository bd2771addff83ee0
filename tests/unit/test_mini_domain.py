"""The gate before drafting: films unlike the known ones score above 1, whatever the group; its file is checked."""

from pathlib import Path

import numpy as np
import pytest

from models.families.mini.domain import DOMAIN_FILE, Domain
from models.training.fit_domain import DECLINED, fit_domain
from pipeline.errors import StopRun

WIDTH = 40


def features(count: int, centre: float, seed: int) -> np.ndarray:
    """Two groups that lie along the same few directions, around other centres."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((5, WIDTH))
    along = generator.standard_normal((count, 5)) @ mixing
    return (centre + along + 0.1 * generator.standard_normal((count, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def domain() -> Domain:
    return fit_domain(
        {
            "first": (features(400, 0.0, 1), features(400, 0.0, 2)),
            "second": (features(400, 5.0, 3), features(400, 5.0, 4)),
        }
    )


def test_known_films_of_every_group_pass(domain: Domain) -> None:
    for centre in (0.0, 5.0):
        assert domain.known(features(2000, centre, 9)).mean() >= 1 - 3 * DECLINED


def test_what_lies_between_or_beside_the_groups_is_declined(domain: Domain) -> None:
    between = features(300, 2.5, 5)
    beside = features(300, 0.0, 6) + np.random.default_rng(7).standard_normal((300, WIDTH)).astype(np.float32)
    for odd in (between, beside):
        assert domain.known(odd).mean() <= 0.02
        assert (domain.score(odd) > 1).mean() >= 0.98


def test_the_file_gives_back_the_same_scores(domain: Domain, tmp_path: Path) -> None:
    domain.save(tmp_path)
    some = features(20, 1.0, 8)
    np.testing.assert_allclose(Domain.load(tmp_path).score(some), domain.score(some), rtol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x10\x00\x00\x00\x00\x00\x00\x00not a header"])
def test_a_missing_or_broken_file_stops_the_run(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / DOMAIN_FILE).write_bytes(content)
    with pytest.raises(StopRun, match="fit_domain"):
        Domain.load(tmp_path)
