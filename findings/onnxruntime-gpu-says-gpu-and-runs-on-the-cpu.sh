#!/usr/bin/env bash
# onnxruntime-gpu asked for TensorRT alone, with no GPU to be seen: no exception, no Python warning, the session
# runs on the CPU.
#
# Versions: onnxruntime-gpu 1.31.1 (PyPI), onnx 1.23.2, with CUDA_VISIBLE_DEVICES empty.
# Expected: providers=["TensorrtExecutionProvider"] without the CPU in the list fails where TensorRT cannot run.
# Seen: get_device() says GPU and get_available_providers() lists TensorRT and CUDA, which tells what was compiled
#   in; the session is made with warnings turned into errors and gives an answer; only session.get_providers() and
#   printed text tell.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check onnx==1.23.2 onnxruntime-gpu==1.31.1 numpy==2.4.6
CUDA_VISIBLE_DEVICES="" timeout 120 v/bin/python -W error - 2>stderr.log <<'PY'
import numpy, onnxruntime
from onnx import TensorProto, helper

value = helper.make_tensor_value_info
graph = helper.make_graph(
    [helper.make_node("Add", ["x", "x"], ["y"])],
    "g",
    [value("x", TensorProto.FLOAT, [2])],
    [value("y", TensorProto.FLOAT, [2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
print("get_device:", onnxruntime.get_device(), "| available:", onnxruntime.get_available_providers())
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["TensorrtExecutionProvider"])
print(
    "asked for TensorRT alone, got",
    session.get_providers(),
    session.run(None, {"x": numpy.ones(2, numpy.float32)})[0].tolist(),
)
assert (
    onnxruntime.get_device() == "GPU" and "TensorrtExecutionProvider" in onnxruntime.get_available_providers()
)
assert session.get_providers() == ["CPUExecutionProvider"]
PY
grep -o "Failed to load library.*\.so[^ ]*" stderr.log | sed 's#/.*/##' | head -1 || true
