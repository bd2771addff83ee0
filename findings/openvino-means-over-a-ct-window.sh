#!/usr/bin/env bash
# Instance normalisation behind a convolution over a window of a CT loses two of seven digits in OpenVINO, told to compute in float32 and
# for accuracy; a network of eighteen of them then labels voxels otherwise than torch and ONNX Runtime.
#
# Version: openvino 2026.4.1, onnxruntime 1.31.1, onnx 1.23.2 (PyPI).
# Expected: as in ONNX Runtime, some 1e-6 of the largest value: float32 with sums in blocks or in more digits.
# Seen: on one thread an error that grows with the window: over 1e-5 for 64 voxels a side, where ONNX Runtime stays below
#   it by a factor of five or more. Two ReduceMean, one after the other, are merged and give the same; with a Clip between
#   them that changes nothing the digits are there. Windows of segmenters have 64 to 192 voxels a side.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 600 v/bin/pip install -q --no-compile --disable-pip-version-check openvino==2026.4.1 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
timeout 180 v/bin/python - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None  # it would send an event
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

core = openvino.Core()


def network(form, side):
    """A convolution that changes nothing, so that OpenVINO chooses its layout, then the window normalised."""
    kernel = np.zeros((16, 16, 3, 3, 3), np.float32)
    kernel[range(16), range(16), 1, 1, 1] = 1
    constants = {
        "kernel": kernel,
        "one": np.ones(16, np.float32), "zero": np.zeros(16, np.float32), "eps": np.float32(1e-5),
        "low": np.float32(-3e38), "high": np.float32(3e38),
        **{f"a{axis}": np.array([axis], np.int64) for axis in (2, 3, 4)},
    }
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1] * 6)]
    if form == "InstanceNormalization":
        nodes.append(helper.make_node(form, ["c", "one", "zero"], ["y"], epsilon=1e-5))
    else:
        def mean(value, name):
            for axis in (4, 3, 2):
                reduced = f"{name}{axis}"
                nodes.append(helper.make_node("ReduceMean", [value, f"a{axis}"], [reduced]))
                value = reduced
                if form == "with a Clip":
                    value = f"{reduced}c"
                    nodes.append(helper.make_node("Clip", [reduced, "low", "high"], [value]))
            return value

        middle = mean("c", "m")
        nodes.append(helper.make_node("Sub", ["c", middle], ["d"]))
        nodes.append(helper.make_node("Mul", ["d", "d"], ["q"]))
        spread = mean("q", "v")
        nodes.append(helper.make_node("Add", [spread, "eps"], ["w"]))
        nodes.append(helper.make_node("Sqrt", ["w"], ["s"]))
        nodes.append(helper.make_node("Div", ["d", "s"], ["y"]))
    shape = [1, 16, side, side, side]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    used = {one for node in nodes for one in node.input}
    for one in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(one)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def error(found, values):
    exact = values.astype(np.float64)
    exact -= exact.mean((2, 3, 4), keepdims=True)
    exact /= np.sqrt((exact**2).mean((2, 3, 4), keepdims=True) + 1e-5)
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def errors(form, side):
    values = np.random.default_rng(0).normal(0.7, 1, (1, 16, side, side, side)).astype(np.float32)
    model = network(form, side)
    compiled = core.compile_model(
        core.read_model(model), "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32",
                                        "EXECUTION_MODE_HINT": "ACCURACY"}
    )
    other = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    there = compiled.create_infer_request().infer({0: values})[0]
    here = error(other.run(None, {"x": values})[0], values)
    found = error(there, values)
    print(f"{form}, {side} voxels a side: OpenVINO {found:.1e}, ONNX Runtime {here:.1e}")
    return found, here


whole = {side: errors("InstanceNormalization", side) for side in (16, 64)}
merged, kept = errors("one axis after another", 64), errors("with a Clip", 64)
assert whole[64][0] > 1e-5 and whole[64][0] > 5 * whole[64][1] and whole[16][0] < whole[64][0] / 3, whole
assert merged[0] > 1e-5 and kept[0] < 3e-6, (merged, kept)
PY
