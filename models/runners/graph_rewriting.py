"""Rewriting an exported graph into fewer and larger operators with the same results.

torch exports a transformer step by step. What is put together here spares passes over the activations, which on a
CPU are a tenth of a tower's time:

    full masks    a mask that hides nothing is not added to the scores
    attention     heads are split and joined inside Attention (ONNX, opset 23), which also takes [n, s, heads * width]
    biases        a product and its bias are one Gemm (ONNX) over all positions of the batch in one matrix
"""

from typing import Any

import numpy as np

HEADS = (0, 2, 1, 3)
"""The permutation from [n, s, heads, width] to [n, heads, s, width], and back."""


def rewrite_graph(model: Any) -> None:
    """Rewrite an ``onnx_ir.Model`` in place; what is written otherwise stays as it is."""
    from onnx_ir.passes.common import (
        RemoveUnusedNodesPass,  # both are part of torch's exporter, slow to import
    )
    from onnxscript.rewriter import RewriteRule, RewriteRuleSet

    _drop_full_masks(model.graph)
    rules = (
        RewriteRule(_split_heads, _attention, _is_split),
        RewriteRule(_turned_heads, _joined_attention, _is_turned),
        RewriteRule(_biased, _gemm, _is_layer),
    )
    RewriteRuleSet(rules).apply_to_model(model)
    RemoveUnusedNodesPass()(model)


def _drop_full_masks(graph: Any) -> None:
    for node in graph:
        if node.op_type == "Attention" and len(node.inputs) == 4 and _hides_nothing(node.inputs[3]):
            node.resize_inputs(3)


def _hides_nothing(mask: Any) -> bool:
    """Whether a mask is a boolean constant, expanded or not, that is true everywhere."""
    maker = None if mask is None else mask.producer()
    source = maker.inputs[0] if maker is not None and maker.op_type == "Expand" else mask
    if source is None or source.const_value is None or source.const_value.dtype.name != "BOOL":
        return False
    return bool(np.all(source.const_value.numpy()))


def _split_heads(op: Any, query: Any, key: Any, value: Any, split: Any, joined: Any) -> Any:
    heads = [op.Transpose(op.Reshape(one, split), perm=HEADS) for one in (query, key, value)]
    attended = op.Attention(*heads, _outputs=["attended"])
    return op.Reshape(op.Transpose(attended, perm=HEADS), joined, _outputs=["mixed"])


def _is_split(_: Any, query: Any, key: Any, value: Any, attended: Any, mixed: Any, **_others: Any) -> bool:
    """Whether each head is a run of the last axis of [n, s, heads * width], which is what Attention splits."""
    if attended.shape is None or len(attended.shape) != 4:
        return False
    whole = _known(attended.shape[1]) * _known(attended.shape[3])
    states = [one.shape for one in (query, key, value, mixed)]
    return all(shape is not None and len(shape) == 3 and _known(shape[2]) == whole > 0 for shape in states)


def _attention(op: Any, query: Any, key: Any, value: Any, attended: Any, **_: Any) -> Any:
    heads = attended.shape[1]
    kept = {
        name: attribute
        for name, attribute in attended.producer().attributes.items()
        if name in ("scale", "softcap", "is_causal")
    }
    return op.Attention(query, key, value, q_num_heads=heads, kv_num_heads=heads, **kept)


def _turned_heads(op: Any, query: Any, key: Any, value: Any) -> Any:
    """Attention of [n, s, heads, width], as it is where queries and keys are turned (rotary) head by head."""
    heads = [op.Transpose(one, perm=HEADS) for one in (query, key, value)]
    return op.Transpose(op.Attention(*heads, _outputs=["attended"]), perm=HEADS, _outputs=["mixed"])


def _is_turned(_: Any, query: Any, key: Any, value: Any, attended: Any, **_others: Any) -> bool:
    shapes = [one.shape for one in (query, key, value)]
    if attended.shape is None or any(shape is None or len(shape) != 4 for shape in shapes):
        return False
    sizes = {(_known(shape[2]), _known(shape[3])) for shape in shapes}
    return sizes == {(_known(attended.shape[1]), _known(attended.shape[3]))} and 0 not in sizes.pop()


def _joined_attention(op: Any, query: Any, key: Any, value: Any, attended: Any, **_: Any) -> Any:
    heads, width = query.shape[2], query.shape[3]
    joined = op.Constant(value_ints=[0, 0, heads * width])  # 0: as it is
    first, second, third = (op.Reshape(one, joined) for one in (query, key, value))
    mixed = _attention(op, first, second, third, attended)
    return op.Reshape(mixed, op.Constant(value_ints=[0, 0, heads, width]))


def _biased(op: Any, states: Any, matrix: Any, bias: Any) -> Any:
    return op.Add(op.MatMul(states, matrix), bias)


def _is_layer(_: Any, states: Any, matrix: Any, bias: Any) -> bool:
    """Whether it is a constant [in, out] and a constant [out], on states with at most one size that is not known."""
    constants = [one.const_value for one in (matrix, bias)]
    if any(one is None for one in constants) or states.shape is None:
        return False
    if len(matrix.shape) != 2 or tuple(bias.shape) != (matrix.shape[1],):
        return False
    return sum(not _known(size) for size in states.shape[:-1]) <= 1


def _gemm(op: Any, states: Any, matrix: Any, bias: Any) -> Any:
    width, wider = matrix.shape
    if len(states.shape) == 2:
        return op.Gemm(states, matrix, bias)
    flat = op.Reshape(states, op.Constant(value_ints=[-1, width]))
    sizes = [_known(size) or -1 for size in states.shape[:-1]]
    return op.Reshape(op.Gemm(flat, matrix, bias), op.Constant(value_ints=[*sizes, wider]))


def _known(size: Any) -> int:
    """A static size; 0 for one that differs from run to run."""
    return size if isinstance(size, int) else 0
