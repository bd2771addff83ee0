"""Weights that a site brings, checked before any library opens them."""

from pathlib import Path

from models.catalog import CatalogEntry
from models.memory import DecoderSize, Need, check_memory, choose_precision, decoder_size, free_memory
from models.tokenizer_check import check_tokenizer, read_json
from models.weight_files import WeightFolder, inspect_folder, verify_folder
from pipeline.errors import ConfigurationError

TOKENS = 2048
"""Positions that the estimate of the cache counts, where the model has as many."""


def check_brought(entry: CatalogEntry, folder: Path, *, precision: str, sha256: str) -> list[WeightFolder]:
    """Look at a folder of weights, or at one per task inside it; nothing is loaded.

    Files, digests, tokenizer and template, then memory for the largest. Raises ConfigurationError and StopRun, each
    saying what to do.
    """
    folders = weight_folders(folder)
    if sha256 and len(folders) > 1:
        message = "model.sha256 pins one folder and this one holds several: keep a SHA256SUMS in each instead"
        raise ConfigurationError("weights-pin", message)
    looked = [inspect_folder(one) for one in folders]
    for one in looked:
        verify_folder(one, sha256) if sha256 or (one.folder / "SHA256SUMS").is_file() else None
        check_tokenizer(one, images=entry.images > 0)
    free = free_memory()
    chosen = choose_precision(precision, on_gpu=free.on_gpu)
    for one in looked:
        check_memory(entry.id, Need(parameters_of(one, entry), chosen, _decoder(one), 1, TOKENS), free)
    return looked


def weight_folders(folder: Path) -> list[Path]:
    """The folder itself, or the folders of weights in it where it holds none of its own (one per task)."""
    if not folder.is_dir() or any(path.suffix in (".safetensors", ".gguf") for path in folder.iterdir()):
        return [folder]
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.safetensors")))
    return inner or [folder]


def parameters_of(weights: WeightFolder, entry: CatalogEntry) -> int:
    """Parameters by the headers; of a GGUF file by the catalogue, or at the least one a byte."""
    return weights.parameters or round(entry.parameters * 1e9) or weights.size


def _decoder(weights: WeightFolder) -> DecoderSize:
    return decoder_size(read_json(weights.folder / "config.json"))
