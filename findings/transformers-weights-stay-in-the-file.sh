#!/usr/bin/env bash
# A model that transformers has loaded changes its answers when somebody writes another file over its weights.
#
# Versions: transformers 5.23.0, safetensors 0.8.0, torch 2.13.0, on a CPU; weights stored in the type in which
#   they are used (float32).
# Expected: from_pretrained returns a model in memory, so what happens to model.safetensors afterwards is for the
#   next start.
# Seen: tensors that need no conversion stay mapped to the file. The same file written in place with another
#   version's weights (as cp and rsync --inplace do) gives a running model those weights at once, without a load,
#   a check or a message. A digest taken at the start is then of other weights than those that answer. (Where
#   torch comes with its CUDA libraries this installs some GB.)
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
timeout 300 v/bin/python -W ignore - 2>&1 <<'PY' | grep -v "it/s"
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)
torch.manual_seed(0)
LlamaForCausalLM(config).save_pretrained("first")
second = LlamaForCausalLM(config).eval()
second.save_pretrained("second")
loaded = AutoModelForCausalLM.from_pretrained("first").eval()
prompt = torch.arange(10)[None]
with torch.no_grad():
    before = loaded(prompt).logits.clone()
    with open("second/model.safetensors", "rb") as source, open("first/model.safetensors", "r+b") as target:
        target.write(source.read())
    after = loaded(prompt).logits.clone()
    other = second(prompt).logits
print(
    f"largest change of a logit: {(after - before).abs().max():.3f}; distance from the second model: {(after - other).abs().max():.3f}"
)
assert not torch.equal(before, after) and torch.equal(after, other)
PY
