#!/usr/bin/env bash
# A graph that makes an image smaller with antialias = 1 does so without it in OpenVINO: the noise stays.
#
# Versions: openvino 2026.4.1, onnxruntime 1.31.1, onnx 1.23.2 (with its reference evaluator), numpy 2.4.6.
# Expected: Resize-18 and later of ONNX with antialias = 1 widens its filter by the scale when it makes an image smaller;
#   a runtime that has no such filter refuses the attribute.
# Seen: OpenVINO reads the model without a word and gives, to the last bit, what it gives for antialias = 0, linear
#   and cubic, on images and on volumes. Noise of a standard deviation of 1, made a quarter as wide, keeps 0.49
#   (linear) or 0.72 (cubic) of it where ONNX Runtime and the reference keep 0.18 and 0.22; fine lines turn into
#   moiré before the encoder sees them.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check openvino==2026.4.1 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
export OPENVINO_TELEMETRY_DISABLE=1 HOME="$work"
timeout 100 v/bin/python - <<'PY'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def answers(image, mode, antialias):
    scales = np.array([1, 1] + [0.25] * (image.ndim - 2), np.float32)
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode=mode, antialias=antialias)
    graph = helper.make_graph(
        [node], "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(scales, "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with open("resize.onnx", "wb") as file:
        file.write(model.SerializeToString())
    compiled = openvino.Core().compile_model("resize.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runtime = onnxruntime.InferenceSession("resize.onnx", providers=["CPUExecutionProvider"])
    return (
        np.array(compiled({"x": image})[0]),
        runtime.run(None, {"x": image})[0],
        ReferenceEvaluator(model).run(None, {"x": image})[0],
    )


noise = np.random.default_rng(0).standard_normal
for what, shape, mode in (
    ("image, linear", (1, 1, 64, 64), "linear"),
    ("image, cubic", (1, 1, 64, 64), "cubic"),
    ("volume, linear", (1, 1, 16, 16, 16), "linear"),
):
    image = noise(shape).astype(np.float32)
    plain, smooth = answers(image, mode, 0), answers(image, mode, 1)
    left = [f"{made.std():.3f}" for made in smooth]
    print(f"{what:14} noise left with antialias: openvino {left[0]}, onnxruntime {left[1]}, reference {left[2]};",
          f"without: openvino {plain[0].std():.3f}")
    assert (plain[0] == smooth[0]).all() and np.allclose(plain[0], plain[2], atol=1e-5)
    assert np.allclose(smooth[1], smooth[2], atol=1e-5) and smooth[1].std() < 0.6 * smooth[0].std()
PY
