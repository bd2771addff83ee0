"""Lingshu: MedEvalKit's prompts and its Qwen2.5-VL class, whose ``process_messages`` is run as it stands."""

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

from qwen import code, pictures, processor_of, see, write

root = code()
shown: list[Any] = []
vision = types.ModuleType("qwen_vl_utils")  # it wants torchvision; the films are within its limits
vision.process_vision_info = lambda messages: (list(shown) or None, None)  # type: ignore[attr-defined]
sys.modules["qwen_vl_utils"] = vision
sys.path.insert(0, str(root / "models" / "Qwen2_5_VL"))
sys.path.insert(0, str(root / "utils"))
import question_formats  # noqa: E402
import Qwen2_5_VL_hf  # noqa: E402
from transformers import BatchFeature  # noqa: E402

BatchFeature.to = lambda self, *device, **kind: self  # type: ignore[method-assign]
processor = processor_of("Qwen2_5_VLProcessor")
model = Qwen2_5_VL_hf.Qwen2_5_VL.__new__(Qwen2_5_VL_hf.Qwen2_5_VL)
model.processor = processor
ids = {}
for name, given in json.loads(Path("asked.json").read_text()).items():
    kind, question, choices, count = given
    prompt = {
        "report": question_formats.get_report_generation_prompt,
        "open": lambda: question_formats.get_open_ended_prompt(question),  # noqa: B023
        "choice": lambda: question_formats.get_multiple_choice_prompt(question, choices),  # noqa: B023
    }[kind]()
    shown[:] = pictures()[2 : 2 + count]
    key = "images" if kind == "report" else "image"
    messages = {"prompt": prompt, key: list(shown) if kind == "report" else shown[0]}
    ids[name] = model.process_messages(messages)["input_ids"][0].tolist()
tokens = int(re.findall(r"'--max_new_tokens', type=int, default=(\d+)", (root / "eval.py").read_text())[0])
penalty = float(re.findall(r"^REPETITION_PENALTY=(\S+)", (root / "eval.sh").read_text(), re.M)[0])
images = int(re.findall(r"^MAX_IMAGE_NUM=(\d+)", (root / "eval.sh").read_text(), re.M)[0])
limits = {"new tokens": tokens, "penalty": penalty, "images": images}
write(see(processor), {"ids": ids, "limits": limits})
