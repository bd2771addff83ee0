"""Weights that a site brings, checked before any library opens them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.catalog import CatalogEntry
from models.weight_loading.memory import (
    RUNNER_COPIES,
    DecoderSize,
    FreeMemory,
    Need,
    check_memory,
    choose_precision,
    decoder_size,
    free_memory,
)
from models.weight_loading.placement import KEPT, TOWERS
from models.weight_loading.tokenizer_check import check_tokenizer, read_json
from models.weight_loading.weight_files import SUMS_FILE, WeightFolder, inspect_folder, verify_folder
from pipeline.errors import ConfigurationError

READ_TEMPLATE = frozenset({"qwen2-vl", "qwen2.5-vl", "qwen3-vl", "gemma3", "llava-onevision"})
"""Adapters whose weights are published with a chat template that places images; others carry a text model's."""
TOKENS = 2048
"""Positions that the estimate of the cache counts, where the model has as many."""


@dataclass(frozen=True, slots=True)
class CheckedWeights:
    """Sound folders of weights, the memory they are estimated to need and what was free."""

    folders: tuple[WeightFolder, ...]
    need: Need
    free: FreeMemory


def check_brought(
    entry: CatalogEntry, folder: Path, *, precision: str, sha256: str, runner: str = ""
) -> CheckedWeights:
    """Look at a folder of weights, or at one per task inside it; nothing is loaded.

    Files, digests, tokenizer and template, then memory, with what a named ``runner`` takes for itself. Raises
    ConfigurationError and StopRun, each saying what to do.
    """
    own, inner = weight_folders(folder)
    if sha256 and inner:
        message = "model.sha256 pins one folder and this one holds several: keep a SHA256SUMS in each instead"
        raise ConfigurationError("weights-pin", message)
    looked = [inspect_folder(one) for one in (*own, *inner)]
    for one in looked:
        if sha256 or (one.folder / SUMS_FILE).is_file():
            verify_folder(one, sha256)
        check_tokenizer(one, images=entry.adapter in READ_TEMPLATE)
    free = free_memory()
    chosen = choose_precision(precision, on_gpu=free.on_gpu)
    counts = [parameters_of(one, entry) for one in looked]
    # parts beside the folder's own weights are loaded together, folders of one task each one at a time
    largest = looked[counts.index(max(counts))]
    kept = [parameters_among(one, KEPT) for one in looked]
    need = Need(
        sum(counts) if own else max(counts),
        chosen,
        _decoder(largest),
        1,
        TOKENS,
        kept=sum(kept) if own else kept[counts.index(max(counts))],
        kept_bytes=2 if free.on_gpu else 4,
        beside=4 * RUNNER_COPIES.get(runner, 0) * max(parameters_among(one, TOWERS) for one in looked),
    )
    check_memory(entry.id, need, free)
    return CheckedWeights(tuple(looked), need, free)


def weight_folders(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folder where it holds weights of its own, and the folders of weights in it: parts, or one per task."""
    if not folder.is_dir():
        return [folder], []
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.safetensors")))
    holds = any(path.suffix in (".safetensors", ".gguf") for path in folder.iterdir())
    return ([folder] if holds or not inner else []), inner


def parameters_of(weights: WeightFolder, entry: CatalogEntry) -> int:
    """Parameters by the headers; of a GGUF file by the catalogue, or at the least one a byte."""
    return weights.parameters or round(entry.parameters * 1e9) or weights.size


def parameters_among(weights: WeightFolder, parts: Sequence[str]) -> int:
    """Parameters of the tensors whose names hold one of ``parts``."""
    return sum(
        tensor.count for name, tensor in weights.tensors.items() if any(part in name for part in parts)
    )


def _decoder(weights: WeightFolder) -> DecoderSize:
    return decoder_size(read_json(weights.folder / "config.json"))
