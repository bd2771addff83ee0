"""MING: its conversations."""

import json
from pathlib import Path

import numpy as np
from ming.conversations import conv_templates
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
ids = {}
for name, (template, words) in json.loads(Path("asked.json").read_text()).items():
    turns = conv_templates[template].copy()
    turns.append_message(turns.roles[0], words)
    turns.append_message(turns.roles[1], None)
    ids[name] = tokenizer(turns.get_prompt())["input_ids"]
np.savez("theirs.npz")
Path("theirs.json").write_text(json.dumps({"ids": ids}))
