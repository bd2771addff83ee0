"""Exported graphs of a model, kept in a cache folder: made once, verified at every load.

``CACHE/KEY/`` holds ``encoder.onnx`` and ``manifest.json``, a folder per compiled engine, and for a model whose texts
are written by our own decoder ``decoder.onnx`` and ``embedding.npy`` (the decoder's token embeddings), with
``joiner.onnx`` between encoder and decoder where the task has a part in it. The key is a digest over the weights'
files, the source of everything that shapes the graphs and the exporting libraries, so that a stale graph is never
found. A folder appears whole or not at all: two processes may make it at the same time.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.runners.decoder_graph import DecoderShape
from models.weight_loading.verified import file_digest
from pipeline.errors import StopRun

MANIFEST_FILE = "manifest.json"
ENCODER_FILE, DECODER_FILE, EMBEDDING_FILE = "encoder.onnx", "decoder.onnx", "embedding.npy"
JOINER_FILE = "joiner.onnx"
LIBRARIES = ("torch", "onnx", "onnxscript", "transformers")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter has to say of the graphs it wrote; ``settings`` are plain values the family wants back.

    ``decoder`` is None where it wrote an encoder alone.
    """

    measured_error: float
    tolerance: float
    decoder: DecoderShape | None
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GraphManifest:
    """``weights``, ``sources``: SHA-256 by file name; ``graphs``: SHA-256 by graph file; ``libraries``: versions."""

    model_id: str
    weights: Mapping[str, str]
    sources: Mapping[str, str]
    libraries: Mapping[str, str]
    graphs: Mapping[str, str]
    exported: Exported


@dataclass(frozen=True, slots=True)
class GraphFolder:
    """Verified graphs on disk: :attr:`encoder`, :attr:`decoder` and :attr:`embedding` are their paths."""

    folder: Path
    manifest: GraphManifest

    @property
    def encoder(self) -> Path:
        """The encoder's graph."""
        return self.folder / ENCODER_FILE

    @property
    def joiner(self) -> Path:
        """The graph between encoder and decoder, for a family that has one."""
        return self.folder / JOINER_FILE

    @property
    def decoder(self) -> Path:
        """The decoder's graph."""
        return self.folder / DECODER_FILE

    @property
    def embedding(self) -> Path:
        """The decoder's token embeddings, float32 [vocabulary, width]."""
        return self.folder / EMBEDDING_FILE


def ensure_graphs(
    cache: Path,
    model_id: str,
    weights: Mapping[str, str],
    sources: tuple[Path, ...],
    export: Callable[[Path], Exported],
) -> GraphFolder:
    """The graphs for ``weights`` (SHA-256 by file name), exported into ``cache`` where they are not there yet.

    ``export`` writes the graphs into the folder it is given. Raises StopRun when a cached file is not the
    one that its manifest describes, or when the cache cannot be written.
    """
    folder, digests, libraries = _place(cache, model_id, weights, sources)
    if not (folder / MANIFEST_FILE).is_file():
        log.info("exporting the graphs of %s: this is done once", model_id)
        _make(folder, lambda part: _describe(part, model_id, weights, digests, libraries, export(part)))
    return GraphFolder(folder, _verified(folder))


def find_graphs(
    cache: Path, model_id: str, weights: Mapping[str, str], sources: tuple[Path, ...]
) -> GraphFolder | None:
    """The graphs for ``weights`` where the cache holds them. Raises StopRun as ``ensure_graphs``."""
    folder, _, _ = _place(cache, model_id, weights, sources)
    return GraphFolder(folder, _verified(folder)) if (folder / MANIFEST_FILE).is_file() else None


def _place(
    cache: Path, model_id: str, weights: Mapping[str, str], sources: tuple[Path, ...]
) -> tuple[Path, dict[str, str], dict[str, str]]:
    """The folder of the graphs, with the digests of the sources and the versions of the libraries in its key."""
    digests = {path.name: file_digest(path) for path in sources}
    libraries = {name: version(name) for name in LIBRARIES}
    key = hashlib.sha256(json.dumps([model_id, dict(weights), digests, libraries], sort_keys=True).encode())
    return cache / key.hexdigest()[:32], digests, libraries


def _describe(
    folder: Path,
    model_id: str,
    weights: Mapping[str, str],
    sources: Mapping[str, str],
    libraries: Mapping[str, str],
    exported: Exported,
) -> None:
    graphs = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    manifest = GraphManifest(model_id, weights, sources, libraries, graphs, exported)
    (folder / MANIFEST_FILE).write_text(
        json.dumps(asdict(manifest), indent=1, default=dict) + "\n", encoding="utf-8"
    )


def _make(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a private folder, then rename it into place; the first process to get there wins."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError as error:
        raise StopRun("cache", f"the cache of compiled models cannot be written ({error.strerror})") from None
    try:
        write(part)
        _sync(part)
        part.rename(folder)
    except OSError as error:
        if not (folder / MANIFEST_FILE).is_file():
            raise StopRun(
                "cache", f"the cache of compiled models cannot be written ({error.strerror})"
            ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _verified(folder: Path) -> GraphManifest:
    try:
        stored: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        exported = stored.pop("exported")
        shape = exported.pop("decoder")
        decoder = DecoderShape(**shape) if shape else None
        manifest = GraphManifest(exported=Exported(decoder=decoder, **exported), **stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StopRun("graphs", f"{folder / MANIFEST_FILE} cannot be read; delete its folder") from None
    for name, digest in manifest.graphs.items():
        if file_digest(folder / name) != digest:
            raise StopRun("graphs", f"{folder / name} is not what its manifest describes; delete its folder")
    return manifest
