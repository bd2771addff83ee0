#!/usr/bin/env bash
# The same model folder is another model when peft happens to be installed, and nothing is said either way.
#
# Versions: transformers 5.23.0, peft 0.21.2, safetensors 0.8.0, torch 2.13.0.
# Expected: from_pretrained on a folder with config.json and model.safetensors loads these; a LoRA adapter lying
#   in the same folder is used when it is asked for, or is named in a message.
# Seen: with peft installed adapter_config.json is found and the adapter is put on the model; without peft the
#   file is passed over. Same folder, same call, same class name, other logits. (Where torch comes with its CUDA
#   libraries this installs some GB.)
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
cat >answer.py <<'PY'
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
import json, pathlib, safetensors.torch, sys

folder = pathlib.Path("model")
if not folder.exists():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    tensors = {name + "A.weight": torch.randn(4, 64), name + "B.weight": torch.randn(64, 4)}
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
model = AutoModelForCausalLM.from_pretrained(folder).eval()
with torch.no_grad():
    logits = model(torch.arange(10)[None]).logits
torch.save(logits, sys.argv[1])
print(
    sys.argv[1],
    type(model).__name__,
    "first logits",
    [round(value, 4) for value in logits[0, -1, :3].tolist()],
)
PY
timeout 300 v/bin/python -W ignore answer.py without-peft 2>&1 | grep -v "it/s"
timeout 300 v/bin/pip install -q --no-compile --disable-pip-version-check peft==0.21.2
timeout 300 v/bin/python -W ignore answer.py with-peft 2>&1 | grep -v "it/s"
timeout 60 v/bin/python - <<'PY'
import torch

difference = (torch.load("with-peft") - torch.load("without-peft")).abs().max()
print(f"largest difference {difference:.4f}")
assert difference > 0.01
PY
