"""RadVLM: the tiles of its training code, LLaVA-OneVision of its own transformers, the template of its conversion.

The tiles are not those of transformers 4.46.0, by which it was evaluated: where the padding is odd that release leaves
a line out, and stretches the last tiles.
"""

import ast
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
)

for name in ("llava", "llava.model", "llava.model.multimodal_encoder"):
    package = types.ModuleType(name)  # their beginnings import the trainer
    package.__path__ = [str(Path(os.environ["CODE"]) / "finetuning" / name.replace(".", "/"))]
    sys.modules[name] = package
told: Any = types.ModuleType("llava.utils")
told.rank0_print = print
sys.modules["llava.utils"] = told
from llava.mm_utils import process_anyres_image  # noqa: E402
from llava.model.multimodal_encoder.siglip_encoder import SigLipImageProcessor  # noqa: E402

root, asked = Path(os.environ["CODE"]), json.loads(Path("asked.json").read_text())
conversion = ast.parse((root / "radvlm/evaluation/convert_llava_onevision_weights_to_hf.py").read_text())
(template,) = [
    one.value.value
    for one in conversion.body
    if isinstance(one, ast.Assign) and getattr(one.targets[0], "id", "") == "chat_template"
]
torch.manual_seed(0)
tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
config = LlavaOnevisionConfig(
    vision_config=asked["vision"], text_config=asked["text"], image_grid_pinpoints=asked["grids"],
    image_token_index=tokenizer.convert_tokens_to_ids("<image>"), use_image_newline_parameter=True,
    video_token_index=tokenizer.convert_tokens_to_ids("<video>"), vision_aspect_ratio="anyres_max_9",
)  # fmt: skip
model = LlavaOnevisionForConditionalGeneration(config).eval()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embed" not in name:
            parameter.mul_(3)
model.save_pretrained("weights")
side = asked["vision"]["image_size"]
image = LlavaOnevisionImageProcessor(
    size={"height": side, "width": side},
    image_grid_pinpoints=asked["grids"],
    image_mean=[0.5] * 3,
    image_std=[0.5] * 3,
)
trained = SigLipImageProcessor(size=(side, side), crop_size={"height": side, "width": side})
tokens = (side // asked["vision"]["patch_size"]) ** 2
processor = LlavaOnevisionProcessor(
    image_processor=image, tokenizer=tokenizer, video_processor=LlavaOnevisionVideoProcessor(), num_image_tokens=tokens,
    vision_feature_select_strategy="full", chat_template=template,
)  # fmt: skip
processor.save_pretrained("weights")
turn = [{"role": "user", "content": [{"type": "text", "text": asked["question"]}, {"type": "image"}]}]
prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
end = tokenizer.convert_tokens_to_ids("<|im_end|>")
arrays, ids = {}, {}
for path in sorted(Path("films").glob("*.png")):
    shown = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)  # as its inference_llavaov does
    given = processor(images=shown, text=prompt, return_tensors="pt")
    given.pop("token_type_ids", None)  # of the small tokenizer's class, not of Qwen2's
    tiles = process_anyres_image(Image.open(path).convert("RGB"), trained, asked["grids"])
    given["pixel_values"] = tiles[None]
    with torch.inference_mode():
        listed = model.get_image_features(
            given["pixel_values"],
            given["image_sizes"],
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
        joined, _ = model.pack_image_features(
            listed,
            given["image_sizes"],
            image_newline=model.image_newline,
            vision_aspect_ratio="anyres_max_9",
        )
        written = model.generate(
            **given, max_new_tokens=asked["limit"], do_sample=False, eos_token_id=end, pad_token_id=end
        )
    arrays[path.stem] = given["pixel_values"][0].numpy()
    arrays[f"features-{path.stem}"] = joined.numpy() if joined.dim() == 2 else joined[0].numpy()
    ids[path.stem] = given["input_ids"][0].tolist()
    ids[f"greedy {path.stem}"] = written[0, given["input_ids"].shape[1] :].tolist()
text = (root / "radvlm/evaluation/models_loading_inference.py").read_text()
(limit,) = re.findall(r"def inference_llavaov\([^)]*max_new_tokens=(\d+)", text)
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text(json.dumps({"ids": ids, "limits": {"new tokens": int(limit)}}))
