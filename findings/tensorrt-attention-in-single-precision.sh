#!/usr/bin/env bash
# TensorRT-RTX parses the ONNX Attention operator in float32 and then refuses to build it, unless each one is told
# that it may be taken apart.
#
# Versions: tensorrt-rtx-cu13 1.7.1.116 (its builder needs no GPU; target SM 8.9), onnx 1.23.2.
# Expected: what the parser takes is built: by one kernel where there is one, by products and a softmax elsewhere,
#   as the same network written out is.
# Seen: float16 builds as it comes. float32 parses without a word and build_serialized_network returns nothing;
#   with decomposable = True on the attention of the parsed network it builds.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check onnx==1.23.2 tensorrt-rtx-cu13==1.7.1.116 numpy==2.4.6
timeout 200 v/bin/python - <<'PY'
import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper

LOGGER = trt.Logger(trt.Logger.INTERNAL_ERROR)


def attention(element):
    tensors = [helper.make_tensor_value_info(name, element, [1, 2, 16, 32]) for name in "qkvy"]
    graph = helper.make_graph(
        [helper.make_node("Attention", ["q", "k", "v"], ["y"])], "g", tensors[:3], tensors[3:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.checker.check_model(model, full_check=True)
    return model


def built(model, taken_apart):
    builder = trt.Builder(LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, LOGGER).parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if taken_apart and layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # get_layer gives the base class
            layer.attention.decomposable = True
    plan = builder.build_serialized_network(network, config)
    return plan is not None


seen = {
    (name, apart): built(attention(element), apart)
    for name, element in (("float16", TensorProto.FLOAT16), ("float32", TensorProto.FLOAT))
    for apart in (False, True)
}
for (name, apart), result in seen.items():
    print(f"{name}, decomposable {apart}: {'built' if result else 'parsed, not built'}")
assert seen == {
    ("float16", False): True,
    ("float16", True): True,
    ("float32", False): False,
    ("float32", True): True,
}
PY
