#!/usr/bin/env bash
# Unsigned 16-bit pixels, what a radiograph is made of, pass the ONNX checker; one runtime adds them but cannot
# clip them, another refuses the type.
#
# Versions: onnx 1.23.2, onnxruntime 1.31.1 (CPU), tensorrt-rtx-cu13 1.7.1.116 (its builder needs no GPU), numpy
#   2.4.6.
# Expected: uint16 is in the type lists of Add, Max, Clip, Resize and Cast (opset 21), so a graph that windows a
#   film itself runs where the checker and the reference evaluator are content.
# Seen: ONNX Runtime runs Add and Cast, and for Max, Clip and Resize says NOT_IMPLEMENTED when the session is
#   made. TensorRT-RTX refuses a graph with any uint16 (or int16) input, even if Cast is its only node; uint8 is
#   taken.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 tensorrt-rtx-cu13==1.7.1.116 numpy==2.4.6
timeout 120 v/bin/python - 2>/dev/null <<'PY'
import numpy, onnx, onnxruntime, tensorrt_rtx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)
LOGGER = tensorrt_rtx.Logger(tensorrt_rtx.Logger.INTERNAL_ERROR)
PIXELS = numpy.array([[[[5, 700], [9, 60000]]]], numpy.uint16)


def graph(node, output=TensorProto.UINT16, size=2, constants=(), element=TensorProto.UINT16):
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", element, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", output, [1, 1, size, size])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def runs(model):
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": PIXELS}
        )
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return "NOT_IMPLEMENTED"
    return "runs"


def parses(model):
    network = tensorrt_rtx.Builder(LOGGER).create_network(0)
    return tensorrt_rtx.OnnxParser(network, LOGGER).parse(model.SerializeToString())


limits = [
    helper.make_tensor("low", TensorProto.UINT16, [], [10]),
    helper.make_tensor("high", TensorProto.UINT16, [], [1000]),
]
scales = [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])]
models = {
    "Cast": graph(helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), TensorProto.FLOAT),
    "Add": graph(helper.make_node("Add", ["x", "x"], ["y"])),
    "Max": graph(helper.make_node("Max", ["x", "low"], ["y"]), constants=limits[:1]),
    "Clip": graph(helper.make_node("Clip", ["x", "low", "high"], ["y"]), constants=limits),
    "Resize": graph(
        helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear"), size=4, constants=scales
    ),
}
seen = {}
for name, model in models.items():
    reference = ReferenceEvaluator(model).run(None, {"x": PIXELS})[0]
    seen[name] = runs(model), parses(model)
    print(
        f"{name}: checker content, reference {reference.ravel()[:4].tolist()}, ONNX Runtime {seen[name][0]}, TensorRT-RTX {'parses' if seen[name][1] else 'refuses'}"
    )
bytes_of = graph(
    helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), TensorProto.FLOAT, element=TensorProto.UINT8
)
print("Cast of uint8 in TensorRT-RTX:", "parses" if parses(bytes_of) else "refuses")
assert [value[0] for value in seen.values()] == ["runs", "runs"] + ["NOT_IMPLEMENTED"] * 3, seen
assert not any(value[1] for value in seen.values()) and parses(bytes_of)
PY
