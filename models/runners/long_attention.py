"""A second graph for ONNX Runtime on the CPU, where attention is over many positions.

Attention of ONNX holds the scores of all heads of an image at once there (4 bytes x heads x positions x positions, 1 GB
of a film of 4,096 patches), and goes through them in memory. ``MultiHeadAttention``, ONNX Runtime's own operator, takes
them block by block in a core's cache. No other runner reads it, so it is a graph beside the one that all read; weights
that lie in a file of their own are shared.
"""

from pathlib import Path
from typing import Any

LONG = 512
"""Positions from which it is quicker: 7.5 ms against 8.1 of 577 positions, 401 against 549 of 4,096 (one thread of an
AMD processor with AVX-512, 16 heads); of 197 it is slower."""
SUFFIX = ".cpu"
DOMAIN = "com.microsoft"


def cpu_graph(graph: Path) -> Path:
    """Where the second graph of ``graph`` lies, if it has one."""
    return graph.with_name(f"{graph.stem}{SUFFIX}{graph.suffix}")


def write_cpu_graph(graph: Path) -> bool:
    """Write the second graph of ``graph``, a float32 one; False, and nothing written, where it would be the same."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(graph), load_external_data=False))
    shapes = {
        value.name: value.type.tensor_type
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }
    changed = [node for node in model.graph.node if _is_long(node, shapes)]
    for node in changed:
        said = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        kept = {"num_heads": said["q_num_heads"]} | ({"scale": said["scale"]} if said.get("scale") else {})
        del node.attribute[:]
        node.op_type, node.domain = "MultiHeadAttention", DOMAIN
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in sorted(kept.items()))
    if not changed:
        return False
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    cpu_graph(graph).write_bytes(model.SerializeToString(deterministic=True))
    return True


def _is_long(node: Any, shapes: Any) -> bool:
    """Whether it is attention [n, s, width] of float32 without a mask, over ``LONG`` positions or any number."""
    from onnx import TensorProto, helper

    if node.op_type != "Attention" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return False
    said = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = not (said.get("is_causal") or said.get("softcap") or any(node.input[3:]))
    own = shapes.get(node.input[0])
    if not plain or own is None or own.elem_type != TensorProto.FLOAT or len(own.shape.dim) != 3:
        return False
    if said.get("q_num_heads", 0) != said.get("kv_num_heads", -1):
        return False
    positions = own.shape.dim[1]
    return not positions.HasField("dim_value") or positions.dim_value >= LONG
