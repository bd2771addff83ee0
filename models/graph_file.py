"""Writing an exported graph: without what differs from machine to machine, and without guards that never act."""

from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS_SUFFIX = ".data"
"""What the file of a graph's weights is called beside the graph's own name."""


def write_graph(model: Any, path: Path, *, apart: bool) -> None:
    """Write an ``onnx_ir.Model``; ``apart`` puts its weights into a file of their own beside ``path``."""
    import onnx_ir  # part of torch's exporter, slow to import

    drop_guards(model.graph)
    strip(model)
    if apart:
        onnx_ir.save(model, path, external_data=path.name + WEIGHTS_SUFFIX)
    else:
        path.write_bytes(onnx_ir.to_proto(model).SerializeToString(deterministic=True))


def strip(model: Any) -> None:
    """Take out stack traces and source paths: they differ from machine to machine."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            value.metadata_props.clear()
            value.doc_string = None
    model.metadata_props.clear()


def drop_guards(graph: Any) -> None:
    """Take out ``where(isnan(x), 0, x)``, which torch writes behind the softmax of every attention.

    It acts on a row that may look at nothing, whose softmax is 0 / 0. No tower here masks a whole row: a patch always
    sees itself. Two passes over the largest arrays of the graph are saved.
    """
    import onnx_ir

    for node in list(graph):
        if node.op_type != "Where":
            continue
        condition, instead, value = node.inputs
        guard = condition.producer()
        if guard is None or guard.op_type != "IsNaN" or guard.inputs[0] is not value:
            continue
        if instead.const_value is None or np.any(instead.const_value.numpy()):
            continue
        onnx_ir.convenience.replace_all_uses_with(node.outputs[0], value)
        graph.remove(node, safe=True)
        if not guard.outputs[0].uses():
            graph.remove(guard, safe=True)
