"""Measure what the model declines: ``python -m models.training.evaluate_domain --shared DIR --images DIR``.

In domain: unseen simulated studies (frontal, lateral and prior films) and the films of held-back adults. Out of it:
noise of several kinds, and every folder of ``--images``, a group each, of PNG or JPEG files; a folder whose name begins
with "chest" holds chest films, told for information. Children's films, and turned and inverted chest films, are told
apart as well. ``--int8 GRAPHS`` reads the films by the encoder of ``model.precision = "int8"``, its graphs kept there.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.families.mini.domain import Domain
from models.networks.mini import FirstreadMini, load_mini
from models.training.evaluate import WEIGHTS, small_encoder
from models.training.fit_domain import pool
from models.training.real_sources import CHILDREN, load_film, read_films
from models.training.unseen import unseen_studies

NOISES = ("gaussian", "uniform", "salt", "poisson", "pink", "flat", "stripes")
PER_NOISE, TURNED = 20, 60
Films = NDArray[np.float32]


def windowed(image: NDArray[np.floating]) -> Films:
    """Grey levels 0..1 between the half-percent quantiles."""
    low, high = np.quantile(image, (0.005, 0.995))
    shown: Films = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return shown


def noise(kind: str, size: int, generator: np.random.Generator) -> Films:
    """One film [size, size] of noise."""
    shape = (size, size)
    if kind == "gaussian":
        return windowed(generator.standard_normal(shape))
    if kind == "uniform":
        return windowed(generator.random(shape))
    if kind == "salt":
        return (generator.random(shape) < generator.uniform(0.01, 0.2)).astype(np.float32)
    if kind == "poisson":
        return windowed(generator.poisson(generator.uniform(1, 9), shape).astype(np.float64))
    if kind == "flat":
        return windowed(generator.random() + 1e-3 * generator.standard_normal(shape))
    if kind == "stripes":
        return windowed(np.sin(np.arange(size) * generator.uniform(0.05, 1.5))[None] * np.ones((size, 1)))
    waves = np.fft.rfft2(generator.standard_normal(shape))
    pitch = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return windowed(np.fft.irfft2(waves / np.maximum(pitch, 1 / size) ** generator.uniform(0.8, 1.6)))


def known_groups(
    network: FirstreadMini, shared: Path, cache: Path | None, studies: int
) -> Iterator[tuple[str, Films]]:
    """The films in domain."""
    size = network.config.vision.image_size
    samples = unseen_studies(studies, size, cache)
    for role, name in enumerate(("frontal", "lateral", "prior")):
        films = np.stack([sample.images[role] for sample in samples])
        yield f"simulated {name}", films.astype(np.float32) / np.float32(255)
    kept = [film for film in read_films(shared) if film.held_back]
    for source in dict.fromkeys(film.source for film in kept):
        some = [load_film(film.path, size) for film in kept if film.source == source]
        yield f"real {source}{' (children)' if source == CHILDREN else ''}", np.stack(some)


def odd_groups(images: Path | None, size: int) -> Iterator[tuple[str, Films]]:
    """Noise, then the folders of images."""
    generator = np.random.default_rng(0)
    for kind in NOISES:
        yield f"noise {kind}", np.stack([noise(kind, size, generator) for _ in range(PER_NOISE)])
    for folder in sorted(images.iterdir()) if images else ():
        paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if paths:
            yield folder.name, np.stack([load_film(path, size) for path in paths])


def turned_groups(films: Films, name: str) -> Iterator[tuple[str, Films]]:
    """The first of ``films`` turned, mirrored and inverted."""
    some = films[:TURNED]
    yield f"{name}, turned by 90 degrees", np.rot90(some, 1, (1, 2)).copy()
    yield f"{name}, upside down", np.rot90(some, 2, (1, 2)).copy()
    yield f"{name}, mirrored", some[:, :, ::-1].copy()
    yield f"{name}, inverted", 1 - some


def main() -> None:
    """Measure and print a table, then one line of JSON; exit status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument("--images", type=Path, default=None, help="folder of folders of images out of domain")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the rendered studies")
    parser.add_argument("--studies", type=int, default=250)
    parser.add_argument("--int8", type=Path, default=None, metavar="GRAPHS")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    network, domain = load_mini(chosen.model), Domain.load(chosen.model)
    size = network.config.vision.image_size
    encoder = None
    if chosen.int8 is not None:
        encoder = small_encoder(chosen.model, chosen.int8, size, chosen.threads)
    counts: dict[str, dict[str, tuple[int, int]]] = {
        "in domain": {},
        "out of domain": {},
        "for information": {},
    }

    def count(part: str, name: str, films: Films) -> None:
        declined = int((~domain.known(pool(network, films, encoder))).sum())
        counts[part][name] = declined, len(films)

    for name, films in known_groups(network, chosen.shared, chosen.cache, chosen.studies):
        count("for information" if name.endswith("(children)") else "in domain", name, films)
        if name in ("simulated frontal", "real nih"):
            for turned, others in turned_groups(films, name):
                count("for information", turned, others)
    for name, films in odd_groups(chosen.images, size):
        count("for information" if name.startswith("chest") else "out of domain", name, films)
    shares = {}
    for part, groups in counts.items():
        for name, (declined, films_) in groups.items():
            print(f"  {part:<16}{name:<42}{declined:>5} of {films_:>4} declined")
        shares[part] = sum(d for d, _ in groups.values()) / max(1, sum(n for _, n in groups.values()))
        print(f"  {part:<16}{'all':<42}{shares[part]:>8.3f} declined")
    held = shares["in domain"] <= 0.05 and shares["out of domain"] >= 0.95
    print(json.dumps({"declined": counts, "shares": shares, "held": held}))
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
