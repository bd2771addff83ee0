"""Products of a language model with weights that oneDNN has packed, on the CPU in float32.

torch multiplies by the library that it was built with, which reads the weights as they lie and is slow where few rows
are multiplied, as in each step of a text. oneDNN, which comes with torch, lays the weights out once for the processor.
A packed layer holds its weights in that layout alone, so nothing is held twice.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.weight_loading.stored_tensors import Scratch, StoredTensor, in_threads

LEAST = 1 << 14
"""Numbers of a matrix that is worth packing."""
BLOCK = 1 << 24
"""Numbers of a matrix that are packed together: an output matrix would be held twice while it is packed whole."""
CLOSE = 1e-4
"""The largest difference from torch's own product, over its largest value, that is rounding."""
PACKED = {"products": "oneDNN, packed"}
_ops: Any = torch.ops
_backend: Any = torch.backends.mkldnn


class PackedLinear(nn.Module):
    """A linear layer whose weights are packed. In and out as ``torch.nn.Linear``."""

    def __init__(self, packed: Sequence[Tensor], bias: Tensor | None, size: tuple[int, int]) -> None:
        """``packed`` as ``pack_weight`` gives them, of the blocks of rows of a matrix of ``size`` (out, in)."""
        super().__init__()
        self.out_features, self.in_features = size
        self._packed = tuple(packed)  # in a layout of oneDNN's own: neither a parameter nor a buffer
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        products: list[Tensor] = [
            _ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
            for packed, bias in zip(self._packed, self._biases(), strict=True)
        ]
        return products[0] if len(products) == 1 else torch.cat(products, -1)

    def _biases(self) -> Sequence[Tensor | None]:
        bias: Any = self.bias
        return (None,) * len(self._packed) if bias is None else torch.split(bias, _rows(self.in_features))


class StoredTable(nn.Module):
    """Token embeddings held in the 16 bits that they were stored in. In and out as ``torch.nn.Embedding``."""

    def __init__(self, table: Tensor) -> None:
        """``table`` [tokens, width] in bfloat16."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = table.shape
        self._table = table  # no parameter: a network's type is that of its first

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [...] to float32 [..., width]."""
        return functional.embedding(ids, self._table).float()


def pack_language(network: Any) -> dict[str, str]:
    """Pack the matrices of the language model of ``network`` in place, those of its tower left as they are.

    Gives what the recipe says of it, since the last bits of a product are others. Nothing is done, and nothing given,
    on a GPU, in another type than float32, and where this torch or this processor has no such products.
    """
    if network.device.type != "cpu" or network.dtype != torch.float32 or not can_pack():
        return {}
    inner = getattr(network, "model", network)
    language = getattr(inner, "language_model", inner)
    table, head = network.get_input_embeddings(), network.get_output_embeddings()
    tied = _is_tied(table, head)
    for parent in list(language.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(parent, name, _packed(child))
    if tied:
        stored = _as_stored(table)
        if stored is None:
            return PACKED  # held once as it is; packed it would be held twice
        network.set_input_embeddings(stored)
    if type(head) is nn.Linear:
        network.set_output_embeddings(_packed(head))
    return PACKED


def pack_stored(network: Any, tensors: Mapping[str, StoredTensor]) -> frozenset[str]:
    """Pack the matrices of a language model straight from its files, each converted in the caches of a core.

    ``network`` has no memory yet (meta tensors), and ``tensors`` are stored under its own names. Gives the names of
    those that it needs no more; what is left ``pack_language`` packs once it is there. Raises as ``StoredTensor.read``.
    """
    if not can_pack():
        return frozenset()
    inner = getattr(network, "model", network)
    inside = {id(one) for one in getattr(inner, "language_model", inner).modules()}
    table, head = network.get_input_embeddings(), network.get_output_embeddings()
    names = {id(one): name for name, one in network.named_modules()}
    head_weight, table_weight = f"{names.get(id(head))}.weight", f"{names.get(id(table))}.weight"
    tied = network.all_tied_weights_keys.get(head_weight)
    works: list[tuple[int, Callable[[Scratch], None]]] = []
    taken: set[str] = set()
    for parent in network.modules():
        for name, child in parent.named_children():
            if type(child) is not nn.Linear or not (id(parent) in inside or (child is head and not tied)):
                continue
            own = {f"{names[id(child)]}.{one}" for one, _ in child.named_parameters(recurse=False)}
            if child.weight.numel() >= LEAST and own <= tensors.keys():
                pack = partial(_pack_read, parent, name, child, names[id(child)], tensors)
                works.append((child.weight.numel(), pack))
                taken |= own
    plain = type(table) is nn.Embedding and type(head) is nn.Linear and head.bias is None
    if plain and tied == table_weight:
        stored = tensors.get(table_weight)
        if (
            stored is not None and stored.dtype is torch.bfloat16
        ):  # as it lies in the file, so no value is another
            works.append((table.weight.numel(), partial(_pack_tied, network, stored)))
            taken.add(table_weight)
    in_threads(
        work for _, work in sorted(works, key=itemgetter(0), reverse=True)
    )  # no thread begins a large one last
    return frozenset(taken)


def _pack_read(
    parent: nn.Module,
    attribute: str,
    layer: nn.Linear,
    name: str,
    tensors: Mapping[str, StoredTensor],
    scratch: Scratch,
) -> None:
    bias = None if layer.bias is None else scratch.read(tensors[f"{name}.bias"]).clone()
    packed = _packed_blocks(tensors[f"{name}.weight"], scratch)
    setattr(parent, attribute, PackedLinear(packed, bias, (layer.out_features, layer.in_features)))


def _pack_tied(network: Any, stored: StoredTensor, scratch: Scratch) -> None:
    table = torch.empty(stored.shape, dtype=stored.dtype)
    stored.read(table, scratch.staging)
    packed = _packed_blocks(stored, scratch)
    network.set_input_embeddings(StoredTable(table))
    network.set_output_embeddings(PackedLinear(packed, None, (stored.shape[0], stored.shape[1])))


def _packed_blocks(stored: StoredTensor, scratch: Scratch) -> list[Tensor]:
    rows = _rows(stored.shape[1])
    firsts = range(0, stored.shape[0], rows)
    return [pack_weight(scratch.read(stored.rows(first, first + rows))) for first in firsts]


def _rows(width: int) -> int:
    """Rows of a block."""
    return max(1, BLOCK // width)


def _is_tied(table: Any, head: Any) -> bool:
    weight = getattr(table, "weight", None)
    return weight is not None and getattr(head, "weight", None) is weight


def _as_stored(table: Any) -> StoredTable | None:
    """``table`` in 16 bits; None for another kind of table, and where a value would not be the same."""
    if type(table) is not nn.Embedding:
        return None
    values = table.weight.detach()
    half = torch.empty(values.shape, dtype=torch.bfloat16)
    for start in range(0, len(values), 1 << 12):  # never the whole table once more in float32
        part = slice(start, start + (1 << 12))
        half[part] = values[part]
        if not torch.equal(half[part].float(), values[part]):
            return None
    return StoredTable(half)


def _packed(layer: nn.Linear) -> nn.Module:
    if layer.weight.numel() < LEAST:
        return layer
    bias = None if layer.bias is None else layer.bias.detach()
    size = (layer.out_features, layer.in_features)
    with torch.inference_mode():
        packed = [
            pack_weight(part.contiguous())
            for part in torch.split(layer.weight.detach(), _rows(layer.in_features))
        ]
    layer.weight = nn.Parameter(torch.empty(0), requires_grad=False)  # whoever holds the layer holds no copy
    return PackedLinear(packed, bias, size)


def pack_weight(weight: Tensor) -> Tensor:
    """``weight`` [out, in] in oneDNN's own layout."""
    packed: Tensor = _ops.mkldnn._reorder_linear_weight(weight)
    return packed


@cache
def can_pack() -> bool:
    """Whether this torch packs on this processor, tried on a small product of rows few and many."""
    if platform.machine() not in ("x86_64", "AMD64") or not _backend.is_available():
        return False
    generator = torch.Generator().manual_seed(1)
    weight, states = torch.randn(192, 128, generator=generator), torch.randn(33, 128, generator=generator)
    try:
        with torch.inference_mode():
            layer = PackedLinear([pack_weight(weight)], None, (192, 128))
            for rows in (states[:1], states[:16], states):
                expected = functional.linear(rows, weight)
                if (layer(rows) - expected).abs().max() > CLOSE * expected.abs().max():
                    return False
    except (AttributeError, RuntimeError):  # a torch without these products
        return False
    return True
