"""Lingshu-I: MedEvalKit's InternVL class, its tiles and its ``process_messages`` run as they stand."""

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
served = types.ModuleType("vllm")
served.LLM = served.SamplingParams = None  # type: ignore[attr-defined]
sys.modules["vllm"] = served
package = types.ModuleType("InternVL")
package.__path__ = [str(root / "models" / "InternVL")]
sys.modules["InternVL"] = package
sys.path.insert(0, str(root / "utils"))
import question_formats  # noqa: E402
from InternVL.InternVL_vllm import InternVL  # noqa: E402
from InternVL.utils import load_image  # noqa: E402

films = sorted(Path("films").glob("*.png"))
arrays = {path.stem: load_image(path).numpy() for path in films}
tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
model, ids = InternVL.__new__(InternVL), {}
for name, (kind, question, choices, count) in json.loads(Path("asked.json").read_text()).items():
    prompt = {
        "report": question_formats.get_report_generation_prompt,
        "open": lambda: question_formats.get_open_ended_prompt(question),  # noqa: B023
        "choice": lambda: question_formats.get_multiple_choice_prompt(question, choices),  # noqa: B023
    }[kind]()
    shown = [Image.open(path) for path in films[:count]]
    messages = (
        {"prompt": prompt, "images": shown} if kind == "report" else {"prompt": prompt, "image": shown[0]}
    )
    text = model.process_messages(messages)["prompt"]
    ids[name] = tokenizer(text.replace("<image>", "<img><IMG_CONTEXT><IMG_CONTEXT></img>"))["input_ids"]
tokens = int(re.findall(r"'--max_new_tokens', type=int, default=(\d+)", (root / "eval.py").read_text())[0])
penalty = float(re.findall(r"^REPETITION_PENALTY=(\S+)", (root / "eval.sh").read_text(), re.M)[0])
images = int(re.findall(r"^MAX_IMAGE_NUM=(\d+)", (root / "eval.sh").read_text(), re.M)[0])
np.savez("theirs.npz", **arrays)
limits = {"new tokens": tokens, "penalty": penalty, "images": images}
Path("theirs.json").write_text(json.dumps({"ids": ids, "limits": limits}))
