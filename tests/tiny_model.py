"""A firstread-mini small enough to export in seconds, with random weights whose greedy texts vary."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from models.catalog import show
from models.families.mini.mini_family import ensure_mini_graphs
from models.networks.mini import TOKENIZER_FILE, FirstreadMini, LanguageConfig, MiniConfig
from models.networks.vision import VisionConfig
from models.training.selfcheck import write_self_check
from models.training.tokenizer import build_tokenizer
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES


@cache
def tiny_weights() -> Path:
    """A weights folder, shared by the tests of one process; copy it before changing it."""
    folder = _temporary()
    write_tiny(folder, seed=0)
    return folder


@cache
def tiny_cache() -> Path:
    """A cache folder shared by the tests of one process, with the graphs of ``tiny_weights``."""
    folder = _temporary()
    graphs = ensure_mini_graphs(show("firstread-mini"), tiny_weights(), ENGINES).folder
    shutil.copytree(graphs, folder / graphs.name)
    return folder


def write_tiny(folder: Path, seed: int) -> None:
    """Write config, weights, tokenizer and self-check of a tiny random model."""
    tokenizer = build_tokenizer()
    vision = VisionConfig(image_size=64, widths=(8, 8, 16, 16), token_width=32, layers=1, heads=2)
    words = LanguageConfig(
        vocabulary=tokenizer.get_vocab_size(), width=32, layers=2, heads=2, feed_forward=64, positions=256
    )
    config = replace(
        MiniConfig(), vision=vision, language=words, expert_hidden=16, router_hidden=8, max_new_tokens=40
    )
    torch.set_num_threads(
        1
    )  # on a busy machine torch's threads wait for one another far longer than they work
    torch.manual_seed(seed)
    network = FirstreadMini(config).eval()
    with torch.no_grad():
        for parameter in network.language.parameters():
            parameter.mul_(20 if parameter.dim() > 1 else 1)
        network.joiner.numbers.tables.mul_(0.1)  # else every film is written about alike
    network.save(folder)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    write_self_check(folder)


def film_study(number: int, *, view: str = "PA", rows: int = 150, columns: int = 120) -> ImageSet:
    """A study of one film of structured noise, stored at twice its working size."""
    generator = np.random.default_rng(number)
    coarse = generator.random((rows // 10, columns // 10))
    pixels = np.kron(coarse, np.ones((10, 10))).astype(np.float32)
    ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
    image = StudyImage(ref, 0, pixels, 2 * rows, 2 * columns, None, "CR", "CHEST", view, "MONOCHROME2")
    return ImageSet(ref.study_instance_uid, (image,))


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="firstread-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
