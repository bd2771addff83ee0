"""Teach the outlines of lungs and heart: ``python -m models.training.fit_outlines --shared DIR --model FOLDER``.

From the outlines that people drew on the films of ``wingspan`` whose patients are not held back, each seen moved,
stretched, turned, mirrored and lit differently every time. Nothing else of the network changes. A minute or two of one
core; one ``--seed``, one result. The rule of real films reads them: fit it, then write the self-check, anew
(``models.training.fit_films``, ``models.training.selfcheck``).
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_model
from torch import Tensor
from torch.nn import functional

from models.networks.mini import CONFIG_FILE, WEIGHTS_FILE, FirstreadMini, MiniConfig
from models.networks.outlines import CELL, PARTS, OutlineNet
from models.training.real_sources import Film, load_film, read_source

SOURCE = "wingspan"
FINE = 256
"""Pixels a side that films and outlines are kept at before they are moved."""
STEPS, TOGETHER, RATE = 500, 16, 4e-3
TURN, SHIFT, MIRRORED = 0.17, 0.15, 0.3
ZOOM, STRETCH = (0.75, 1.35), (0.87, 1.15)
MIRROR = [PARTS.index(name) for name in ("background", "left_lung", "right_lung", "heart")]

log = logging.getLogger(__name__)


def read_outlines(films: list[Film]) -> tuple[Tensor, Tensor]:
    """Films [n, 1, FINE, FINE], 0..1, and which part each pixel is, one-hot [n, parts, FINE, FINE]."""
    pixels, parts = [], []
    for film in films:
        pixels.append(load_film(film.path, FINE))
        with Image.open(film.path.parents[1] / "masks" / f"{film.path.stem}.png") as drawn:
            parts.append(np.asarray(drawn.resize((FINE, FINE), Image.Resampling.NEAREST)))
    one_hot = functional.one_hot(torch.from_numpy(np.stack(parts)).long(), len(PARTS))
    return torch.from_numpy(np.stack(pixels))[:, None], one_hot.permute(0, 3, 1, 2).float()


def moves(count: int, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3] for ``affine_grid``."""

    def between(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    turn, zoom, stretch = between(-TURN, TURN), between(*ZOOM), between(*STRETCH)
    move = torch.zeros(count, 2, 3)
    move[:, 0, 0], move[:, 0, 1] = torch.cos(turn) * zoom * stretch, -torch.sin(turn) * zoom
    move[:, 1, 0], move[:, 1, 1] = torch.sin(turn) * zoom * stretch, torch.cos(turn) * zoom
    move[:, 0, 2], move[:, 1, 2] = between(-SHIFT, SHIFT), between(-SHIFT, SHIFT)
    return move


def relit(films: Tensor, generator: torch.Generator) -> Tensor:
    """Films as of other detectors: another curve, sharpness, evenness, window and noise."""

    def between(low: float, high: float) -> Tensor:
        return torch.empty(len(films), 1, 1, 1).uniform_(low, high, generator=generator)

    lit = films.clamp_min(1e-3) ** torch.exp(between(-0.6, 0.6))
    lit = lit + between(-0.8, 0.8) * (lit - blurred(lit, 4))
    lit = lit + between(-0.8, 0.3) * (blurred(lit, 16) - 0.5)
    low, high = between(-0.1, 0.25), between(0.75, 1.1)
    noise = torch.randn(films.shape, generator=generator) * 0.03 * between(0, 1)
    return ((lit - low) / (high - low)).clamp(0, 1) + noise


def blurred(films: Tensor, cell: int) -> Tensor:
    """Films without what is finer than ``cell`` pixels."""
    small = functional.avg_pool2d(films, cell)
    return functional.interpolate(small, scale_factor=float(cell), mode="bilinear", align_corners=False)


def draw(pixels: Tensor, parts: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some films of ``size`` pixels a side, and about which share of each cell is which part; outside is background."""
    count, cells = len(pixels), size // CELL
    move = moves(count, generator)
    grid = functional.affine_grid(move, [count, 1, size, size], align_corners=False)
    seen = functional.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)
    coarse = functional.affine_grid(move, [count, 1, 2 * cells, 2 * cells], align_corners=False)
    there = functional.grid_sample(parts, coarse, padding_mode="zeros", align_corners=False)
    there = functional.avg_pool2d(there, 2)
    outside = 1 - there.sum(dim=1, keepdim=True)
    there = torch.cat([there[:, :1] + outside, there[:, 1:]], dim=1).reshape(count, len(PARTS), cells, cells)
    turned = (torch.rand(count, generator=generator) < MIRRORED)[:, None, None, None]
    seen = torch.where(turned, seen.flip(3), seen)
    return relit(seen, generator), torch.where(turned, there.flip(3)[:, MIRROR], there)


def outline_loss(logits: Tensor, there: Tensor) -> Tensor:
    """Cross entropy, and one less the overlap (Dice) of lungs and heart."""
    chance = logits.softmax(dim=1)
    entropy = -(there * logits.log_softmax(dim=1)).sum(dim=1).mean()
    shared = 2 * (chance * there).sum(dim=(0, 2, 3)) / ((chance + there).sum(dim=(0, 2, 3)) + 1)
    return entropy + 1 - shared[1:].mean()


def fit(pixels: Tensor, parts: Tensor, size: int, steps: int, seed: int) -> OutlineNet:
    """The network after ``steps`` steps over films as ``read_outlines`` gives them."""
    torch.manual_seed(seed)
    generator, network = torch.Generator().manual_seed(seed), OutlineNet()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for step in range(steps):
        chosen = torch.randint(len(pixels), (TOGETHER,), generator=generator)
        seen, there = draw(pixels[chosen], parts[chosen], size, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(seen)
        loss = outline_loss(logits.float(), there)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            log.info("step %d: loss %.3f", step + 1, loss.item())
    return network.eval()


@torch.inference_mode()
def overlaps(network: OutlineNet, pixels: Tensor, parts: Tensor, size: int) -> dict[str, float]:
    """Dice of each part over films, by cells."""
    seen = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    found = network(seen).softmax(dim=1)
    there = functional.interpolate(parts, found.shape[-2:], mode="area")
    shared = 2 * torch.minimum(found, there).sum(dim=(2, 3)) / (found + there).sum(dim=(2, 3))
    return dict(zip(PARTS, shared.mean(dim=0).tolist(), strict=True))


def load_beside(folder: Path) -> FirstreadMini:
    """The network of ``folder``, whose outlines and label networks may be missing. Raises ValueError where more is."""
    network = FirstreadMini(MiniConfig.from_json((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    missing, unknown = load_model(network, folder / WEIGHTS_FILE, strict=False)
    if unknown or any(not name.startswith(("outlines.", "labels.")) for name in missing):
        raise ValueError(f"{WEIGHTS_FILE} is not of this network")
    return network


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds data/wingspan")
    parser.add_argument("--model", type=Path, required=True, help="weights folder; it is written anew")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    films = list(read_source(chosen.shared, SOURCE))
    network = load_beside(chosen.model)
    size = network.config.vision.image_size
    learned = read_outlines([film for film in films if not film.held_back])
    network.outlines = fit(*learned, size, chosen.steps, chosen.seed)
    network.save(chosen.model)
    kept = read_outlines([film for film in films if film.held_back])
    for name, of in (("learned from", learned), ("held back", kept)):
        told = ", ".join(
            f"{part} {share:.3f}" for part, share in overlaps(network.outlines, *of, size).items()
        )
        print(f"Dice, {len(of[0])} films {name}: {told}")


if __name__ == "__main__":
    main()
