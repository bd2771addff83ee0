"""Fleming-VL: its demo's inference of one film, run as it stands with a model that keeps what it is given."""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

sys.modules["decord"] = types.ModuleType("decord")  # videos
sys.modules["decord"].VideoReader = sys.modules["decord"].cpu = None  # type: ignore[attr-defined]
torch.bfloat16 = torch.float32  # type: ignore[misc]
torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign,assignment]
sys.path.insert(0, str(Path(os.environ["CODE"]) / "demo"))
import demo_all  # noqa: E402

demo_all.MODEL_PATH = "weights"
SYSTEM = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


class Kept:
    """A model whose ``chat`` keeps what it is asked; its own code puts the words into internvl2_5's conversation."""

    def chat(self, tokenizer: Any, pixels: Any, question: str, settings: dict[str, Any]) -> str:
        self.pixels, self.question, self.settings = pixels, question, settings
        return ""


model, arrays, ids = Kept(), {}, {}
tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
(question,) = json.loads(Path("asked.json").read_text())
for path in sorted(Path("films").glob("*.png")):
    from PIL import Image

    Image.open(path).convert("RGB").save("film.png")
    demo_all.inference_single_image(model, tokenizer, "film.png", question)
    arrays[path.stem] = model.pixels.numpy()
shown = model.question.replace("<image>", "<img><IMG_CONTEXT></img>", 1)
prompt = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{shown}<|im_end|>\n<|im_start|>assistant\n"
)
ids[question] = tokenizer(prompt)["input_ids"]
np.savez("theirs.npz", **arrays)
limits = {"new tokens": model.settings["max_new_tokens"]}
Path("theirs.json").write_text(json.dumps({"ids": ids, "limits": limits}))
