#!/usr/bin/env bash
# A FreeSurfer volume is big-endian in memory: ONNX Runtime and safetensors take its bytes as little-endian ones.
#
# Versions: nibabel 5.4.2, onnxruntime 1.31.1, safetensors 0.8.0, openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: an array of numpy is its values, whichever the order of its bytes; who cannot use that order refuses it,
#   as torch.from_numpy and onnx.numpy_helper do. Files of .mgz are big-endian always, and NIfTI may be.
# Seen: values 0 to 7, read by nibabel as dtype >f4, go through an Identity. OpenVINO gives 0 to 7. ONNX Runtime gives
#   0, 4.6e-41, 9.0e-44 ... and safetensors.numpy writes a file that reads back 0, 4, 2, 6, 1, 5, 3, 7: neither says a
#   word, and the shape and the type are right. onnx.numpy_helper refuses with ValueError.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check nibabel==5.4.2 onnxruntime==1.31.1 \
  safetensors==0.8.0 openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
export OPENVINO_TELEMETRY_DISABLE=1 HOME="$work"
timeout 100 v/bin/python - <<'PY'
import nibabel
import numpy as np
import onnxruntime
import openvino
from nibabel.freesurfer.mghformat import MGHImage
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

values = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
MGHImage(values, np.eye(4)).to_filename("volume.mgz")
volume = np.asanyarray(nibabel.load("volume.mgz").dataobj)
print("nibabel    ", volume.dtype.str, volume.ravel())
assert volume.dtype.str == ">f4" and (volume == values).all()

shape = [2, 2, 2]
graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])],
    "same",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
with open("same.onnx", "wb") as file:
    file.write(model.SerializeToString())
runtime = onnxruntime.InferenceSession("same.onnx", providers=["CPUExecutionProvider"])
by_onnxruntime = runtime.run(None, {"x": volume})[0]
by_openvino = openvino.Core().compile_model("same.onnx", "CPU")({"x": volume})[0]
by_safetensors = load(save({"x": volume}))["x"]
print("openvino   ", by_openvino.ravel())
print("onnxruntime", by_onnxruntime.ravel())
print("safetensors", by_safetensors.ravel())
try:
    numpy_helper.from_array(volume)
    refused = False
except ValueError as why:
    refused = True
    print("onnx       ", why)
swapped = volume.view("<f4")  # the bytes as they lie, read in the other order
assert refused and (by_openvino == values).all()
assert (by_onnxruntime == swapped).all() and not (by_safetensors == values).all()
PY
