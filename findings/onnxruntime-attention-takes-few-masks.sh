#!/usr/bin/env bash
# The mask of padding that every batch has, [batch, 1, 1, keys], is refused by the Attention of ONNX Runtime; the
# standard has it, and so has its reference.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6; opsets 23 and 24, CPU.
# Expected: attn_mask "must be broadcastable to (batch_size, q_num_heads, q_sequence_length, total_sequence_length)"
#   (operator Attention of opset 23); since opset 24 its last dimension may be shorter and is padded.
# Seen: the session is made, and run() fails for every mask whose last two dimensions are to be broadcast, [1, 1, 1, 5]
#   and [1, 5] among them, and for a shorter one; [1, 1, 3, 5] and [3, 5] run and agree with onnx's reference. So the
#   fault shows at the first batch and not where the graph is checked.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
timeout 120 v/bin/python - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

random = np.random.default_rng(0)
values = {name: random.standard_normal((2, 2, n, 8)).astype(np.float32) for name, n in (("Q", 3), ("K", 5), ("V", 5))}
quiet = onnxruntime.SessionOptions()
quiet.log_severity_level = 4


def runs(shape, opset=23):
    """Whether ONNX Runtime takes a mask of this shape; the reference has to, and both have to agree."""
    feeds = values | {"M": random.standard_normal(shape).astype(np.float32)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, fed.shape) for name, fed in feeds.items()]
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, values["Q"].shape)
    graph = helper.make_graph([helper.make_node("Attention", list(feeds), ["Y"])], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
    try:
        (answer,) = session.run(None, feeds)
    except Exception as error:
        print(shape, "opset", opset, "| refused:", str(error).strip().rsplit("false. ", 1)[-1])
        return False
    print(shape, "opset", opset, "| the same as the reference:", bool(np.allclose(answer, wanted, atol=1e-5)))
    assert np.allclose(answer, wanted, atol=1e-5)
    return True


assert all(runs(shape) for shape in ((3, 5), (1, 3, 5), (1, 1, 3, 5), (2, 1, 3, 5)))
assert not any(runs(shape) for shape in ((2, 1, 1, 5), (1, 1, 1, 5), (1, 5), (3, 1)))
assert not runs((3, 4), opset=24)
PY
