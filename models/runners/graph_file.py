"""Writing an exported graph, without what differs from machine to machine."""

from pathlib import Path
from typing import Any

from models.runners.graph_rewriting import rewrite_graph

WEIGHTS_SUFFIX = ".data"
"""What the file of a graph's weights is called beside the graph's own name."""


def write_graph(model: Any, path: Path, *, apart: bool) -> None:
    """Write an ``onnx_ir.Model``; ``apart`` puts its weights into a file of their own beside ``path``."""
    import onnx_ir  # part of torch's exporter, slow to import

    rewrite_graph(model)
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
