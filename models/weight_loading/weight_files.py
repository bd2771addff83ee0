"""A folder of weights as its authors publish it: what may be opened, before anything opens it.

Safetensors or one GGUF file, nothing else: pickles (.bin, .pt, .pth, .ckpt) are never opened, since opening one runs
whatever it says. Headers and the shard index are read here with their own bounds, so that a damaged or hostile folder
ends with a sentence and not with a stack trace, an endless read or a path outside the folder.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weight_loading.kept_digests import weight_digest
from pipeline.errors import ConfigurationError, StopRun

ADAPTER_FILE, CONFIG_FILE, ADAPTER_STEM = "adapter_config.json", "config.json", "adapter_model"
INDEX_SUFFIX = ".safetensors.index.json"
SUMS_FILE = "SHA256SUMS"
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".model_state"})
MAX_HEADER, MAX_INDEX = 100 << 20, 64 << 20
MAX_RANK = 16
ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
READ_WITH_WEIGHTS = frozenset({".json", ".safetensors", ".gguf", ".model", ".txt", ".jinja"})
"""Suffixes of the files that shape an answer; the others of a folder (README, pictures) are not read."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a header states it; ``start`` counts bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        product = 1
        for side in self.shape:
            product *= side
        return product


@dataclass(frozen=True, slots=True)
class WeightFolder:
    """A sound folder: its weight files in order, and the tensors of its safetensors ({} for a GGUF file)."""

    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are one GGUF file."""
        return self.files[0].suffix == ".gguf"

    @property
    def size(self) -> int:
        """Bytes of the weight files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def parameters(self) -> int:
        """Numbers held by the tensors; 0 for a GGUF file, whose blocks pack them."""
        return sum(tensor.count for tensor in self.tensors.values())


def inspect_folder(folder: Path) -> WeightFolder:
    """Look at the weight files of a folder without loading them.

    Raises ConfigurationError for a folder that is not one of weights or that holds pickles only (it says how to convert
    them), StopRun for files that are damaged, lie about themselves or lead out of the folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            "weights-folder", f"{folder} is not a folder: set model.weights to one of weights"
        )
    root = folder.resolve()
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".gguf"))
    gguf = [path for path in files if path.suffix == ".gguf"]
    tensors = [path for path in files if path.suffix == ".safetensors"]
    index = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    _check_no_adapter(folder, [*gguf, *tensors])
    if gguf and not tensors:
        return WeightFolder(folder, (_one_gguf(gguf, root),), {})
    if not tensors:
        if index:
            read_index(index[0], frozenset())
        raise _no_weights(folder)
    for path in tensors:
        check_inside(path, root)
    if len(index) > 1:
        raise ConfigurationError(
            "weights-folder", f"{folder} holds {len(index)} shard indices: leave one model in it"
        )
    found: dict[str, TensorInfo] = {}
    shards = tensors
    if index:
        check_inside(index[0], root)
        placed = read_index(index[0], frozenset(path.name for path in tensors))
        shards = sorted({folder / name for name in placed.values()})
    elif len(tensors) > 1 and any("-of-" in path.stem for path in tensors):
        raise StopRun(
            "weights",
            f"the shards of {folder.name} have no {INDEX_SUFFIX.lstrip('.')}: copy the folder whole",
        )
    for path in shards:
        held = read_header(path)
        if twice := sorted(set(held) & set(found)):
            raise StopRun(
                "weights",
                f"{path.name} holds {twice[0]} again, which another shard has: copy the folder whole",
            )
        found |= held
        if index:
            wrong = [name for name, shard in placed.items() if shard == path.name and name not in held]
            if wrong:
                raise StopRun(
                    "weights", f"{path.name} does not hold {wrong[0]}, which the shard index places in it"
                )
    if index and (stray := sorted(set(found) - set(placed))):
        raise StopRun(
            "weights", f"the shard index does not name {stray[0]}, which a shard holds: copy the folder whole"
        )
    return WeightFolder(folder, tuple(shards), found)


def _check_no_adapter(folder: Path, weights: list[Path]) -> None:
    """Raises ConfigurationError for an adapter beside whole weights: transformers lays it over them where peft is."""
    whole = [path for path in weights if not path.stem.startswith(ADAPTER_STEM)]
    expert = all(
        path.stem == "non_lora_trainables" for path in whole
    )  # MING-MOE's, the base in a folder of its own
    if (folder / ADAPTER_FILE).is_file() and (folder / CONFIG_FILE).is_file() and not expert:
        message = (
            f"{folder} holds an adapter ({ADAPTER_FILE}) beside whole weights, and which of the two is meant nobody "
            "can tell: move the adapter out, or the weights into a folder base beside it"
        )
        raise ConfigurationError("weights-folder", message)


def read_index(path: Path, present: frozenset[str]) -> dict[str, str]:
    """Shard file name by tensor name. Raises StopRun for an index that is damaged or names what is not there."""
    try:
        if path.stat().st_size > MAX_INDEX:
            raise StopRun("weights", f"{path.name} is larger than any shard index: copy the folder again")
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StopRun(
            "weights", f"{path.name} cannot be read ({type(error).__name__}): copy the folder again"
        ) from None
    return parse_index(stored, path.name, present)


def parse_index(stored: Any, name: str, present: frozenset[str]) -> dict[str, str]:
    """The weight map of a shard index. Raises StopRun unless every shard is a plain name of a file that is there."""
    placed = stored.get("weight_map") if isinstance(stored, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise StopRun("weights", f"{name} has no weight_map: copy the folder again")
    for tensor, shard in placed.items():
        if not isinstance(shard, str) or not isinstance(tensor, str):
            raise StopRun("weights", f"{name} places a tensor in something that is not a file name")
        if Path(shard).name != shard or "\\" in shard or "\0" in shard or shard in ("", ".", ".."):
            raise StopRun("weights", f"{name} leads out of the folder of the weights; do not use this folder")
        if not shard.endswith(".safetensors"):
            raise StopRun(
                "weights", f"{name} names a shard that is not safetensors; only safetensors are opened"
            )
        if shard not in present:
            raise StopRun(
                "weights", f"{name} names {shard}, which is not in the folder: copy the folder whole"
            )
    return dict(placed)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name. Raises StopRun for a header that is damaged or lies about the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise StopRun(
                    "weights", f"{path.name} is cut short or is not a safetensors file: copy it again"
                )
            header: Any = json.loads(stream.read(length))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path.name} is not a readable safetensors file ({type(error).__name__}): copy it again"
        raise StopRun("weights", message) from None
    return parse_header(header, path.name, size - 8 - length)


def parse_header(header: Any, name: str, data: int) -> dict[str, TensorInfo]:
    """Tensors of a parsed header over ``data`` bytes. Raises StopRun unless they fill it without gap or overlap."""
    if not isinstance(header, dict):
        raise StopRun("weights", f"{name} has no safetensors header: copy it again")
    tensors, spans = {}, []
    for tensor, stated in header.items():
        if tensor == "__metadata__":
            continue
        info, span = _stated(stated)
        if info is None or span is None:
            raise StopRun("weights", f"{name} describes a tensor that cannot be: copy it again")
        if (span[1] - span[0]) * 8 != info.count * ITEM_BITS[info.dtype]:
            raise StopRun("weights", f"{name} gives {tensor} another size than its shape has: copy it again")
        tensors[tensor] = info
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise StopRun("weights", f"{name} has tensors that overlap or leave gaps: do not use it")
        end = stop
    if end != data:
        raise StopRun("weights", f"{name} is cut short: its header speaks of {end} bytes and it holds {data}")
    return tensors


def check_inside(path: Path, root: Path) -> None:
    """Raises StopRun for a link that leads out of ``root``, the resolved folder.

    A link into the blobs of a Hugging Face cache (``models--*/blobs`` beside ``snapshots``) is how that cache is built.
    """
    if not path.is_symlink():
        return
    target = path.resolve()
    if target.is_relative_to(root):
        return
    if root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs":
        return
    message = (
        f"{path.name} is a link that leads out of the folder of the weights: copy the file itself into it"
    )
    raise StopRun("weights", message)


def weight_digests(folder: WeightFolder) -> dict[str, str]:
    """SHA-256 of every file that shapes an answer, by its path in the folder, those of subfolders too.

    Folders whose name begins with a dot are left out: nothing reads them. Raises StopRun for a link that leads out.
    """
    root = folder.folder.resolve()
    digests: dict[str, str] = {}
    for path in sorted(folder.folder.rglob("*")):
        inside = path.relative_to(folder.folder)
        if (
            path.suffix in READ_WITH_WEIGHTS
            and path.is_file()
            and not any(part.startswith(".") for part in inside.parts)
        ):
            check_inside(path, root)
            digests[inside.as_posix()] = weight_digest(path)
    return digests


def sums_text(digests: Mapping[str, str]) -> str:
    """The text of ``SHA256SUMS``, as sha256sum writes and checks it."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def verify_folder(folder: WeightFolder, sha256: str = "") -> dict[str, str]:
    """Digests of the folder's files, compared with its ``SHA256SUMS`` and with the site's pin where there are any.

    ``sha256`` pins the whole folder: the SHA-256 of ``SHA256SUMS``. Raises StopRun for a file that is not the one that
    was listed, is missing from the list or from the folder, and ConfigurationError for a pin without a list.
    """
    import hashlib

    path = folder.folder / SUMS_FILE
    digests = weight_digests(folder)
    if not path.is_file():
        if sha256:
            message = f"model.sha256 is set and {folder.folder} has no {SUMS_FILE}: write it with `{COMMAND}`"
            raise ConfigurationError("weights-pin", message)
        return digests
    check_inside(path, folder.folder.resolve())
    content = path.read_bytes()
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        message = f"{SUMS_FILE} is not the one that model.sha256 pins: find out who changed the weights"
        raise StopRun("weights", message)
    listed = dict(_listed(content, path.name))
    for name, digest in digests.items():
        if name not in listed:
            raise StopRun(
                "weights", f"{name} is not in {SUMS_FILE}: it came later; remove it, or list it knowingly"
            )
        if listed[name] != digest:
            raise StopRun("weights", f"{name} is not the file that {SUMS_FILE} lists: copy the folder again")
    if gone := sorted(
        name for name in listed if Path(name).suffix in READ_WITH_WEIGHTS and name not in digests
    ):
        raise StopRun("weights", f"{gone[0]} is in {SUMS_FILE} and not in the folder: copy the folder whole")
    return digests


COMMAND = "python -m models.pin FOLDER"


def _listed(content: bytes, name: str) -> Iterator[tuple[str, str]]:
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise StopRun("weights", f"{name} cannot be read; write it again with `{COMMAND}`") from None
    for line in lines:
        digest, _, file = line.partition("  ")
        if len(digest) != 64 or not file or not _is_inside(file):
            raise StopRun(
                "weights", f"{name} has a line that names no file of the folder; write it with `{COMMAND}`"
            )
        yield file, digest


def _is_inside(name: str) -> bool:
    """Whether ``name``, as a list has it, is that of a file in the folder or below it."""
    return all(part not in ("", ".", "..") for part in name.split("/"))


def _stated(stated: Any) -> tuple[TensorInfo | None, tuple[int, int] | None]:
    """What a header says of one tensor; None for what cannot be."""
    if not isinstance(stated, dict):
        return None, None
    dtype, shape, span = (stated.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        return None, None
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_is_size(side) for side in shape):
        return None, None
    if not isinstance(span, list) or len(span) != 2 or not all(_is_size(edge) for edge in span):
        return None, None
    if span[0] > span[1]:
        return None, None
    return TensorInfo(dtype, tuple(shape), span[0]), (span[0], span[1])


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _one_gguf(files: list[Path], root: Path) -> Path:
    if len(files) > 1:
        raise ConfigurationError("weights-folder", f"the folder holds {len(files)} GGUF files: leave one")
    check_inside(files[0], root)
    with files[0].open("rb") as stream:
        magic, version = stream.read(4), stream.read(4)
    if magic != b"GGUF" or len(version) < 4 or struct.unpack("<I", version)[0] not in (2, 3):
        raise StopRun("weights", f"{files[0].name} is not a GGUF file of version 2 or 3: copy it again")
    return files[0]


def _no_weights(folder: Path) -> ConfigurationError:
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if not pickled:
        return ConfigurationError("weights-folder", f"{folder} holds no safetensors and no GGUF file")
    message = (
        f"{folder} holds pickled weights only ({pickled[0]}), which are never opened here: opening one runs what it "
        "says. Take the safetensors that the authors publish, or convert them on a machine you can lose: load the "
        "model with transformers there and save it with model.save_pretrained(folder)"
    )
    return ConfigurationError("pickled-weights", message)
