"""MedRegA: its ``build_transform`` and its conversation over the questions of its demo."""

import json
import os
import re
import sys
import types
from pathlib import Path

import lent
import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast

assert lent
root = Path(os.environ["CODE"])
package = types.ModuleType("internvl.train")  # its own beginning imports the trainer
package.__path__ = [str(root / "src/internvl/train")]
sys.modules["internvl.train"] = package
from internvl.conversation import get_conv_template  # noqa: E402
from internvl.train.dataset import build_transform  # noqa: E402

films = sorted(Path("films").glob("*.png"))
size = json.loads(Path("weights/config.json").read_text())["force_image_size"]
transform = build_transform(is_train=False, input_size=size)
arrays = {path.stem: transform(Image.open(path)).numpy()[None] for path in films}
tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
ids, asked = {}, {}
tokens = "<img>" + "<IMG_CONTEXT>" * ((size // 14) ** 2 // 4) + "</img>"
for line in (root / "demo_data/data_file.jsonl").read_text().splitlines():
    case = json.loads(line)
    question = next(one["value"] for one in case["conversations"] if one["from"] == "human")
    turns = get_conv_template("Hermes-2")
    turns.append_message(turns.roles[0], question.replace("<image>", tokens))
    turns.append_message(turns.roles[1], None)
    name = f"demo {case['id']}"
    ids[name], asked[name] = tokenizer(turns.get_prompt())["input_ids"], question
limits = {"new tokens": int(re.findall(r"'max_new_tokens': (\d+)", (root / "src/demo.py").read_text())[0])}
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text(json.dumps({"ids": ids, "asked": asked, "limits": limits}))
