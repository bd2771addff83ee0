"""InternVL: its own network with each language model, its tiles, its conversation, its ``generate``."""

import json
import sys
import types
from pathlib import Path

import lent
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

assert lent
for name in ("cv2", "imageio", "decord"):  # videos
    sys.modules[name] = types.ModuleType(name)
sys.modules["decord"].VideoReader = None  # type: ignore[attr-defined]
import os  # noqa: E402

root = Path(os.environ["CODE"]) / "internvl_chat"
sys.path.insert(0, str(root))
package = types.ModuleType("internvl.train")  # its own beginning imports the trainer
package.__path__ = [str(root / "internvl/train")]
sys.modules["internvl.train"] = package
from internvl.conversation import get_conv_template  # noqa: E402
from internvl.model.internvl_chat import InternVLChatConfig, InternVLChatModel  # noqa: E402
from internvl.train.dataset import build_transform, dynamic_preprocess  # noqa: E402

asked = json.loads(Path("asked.json").read_text())
films = sorted(Path("films").glob("*.png"))
arrays, ids = {}, {}
for text in asked["languages"]:
    folder = Path(text)
    config = InternVLChatConfig(**json.loads((folder / "config.json").read_text()))
    config.vision_config.use_flash_attn = False
    model = InternVLChatModel(config, use_flash_attn=False).eval()
    held = {}
    for path in folder.glob("*.safetensors"):
        held |= load_file(path)
    missing = model.load_state_dict(held, strict=False)
    assert not missing.unexpected_keys, missing
    assert all("inv_freq" in one for one in missing.missing_keys), missing
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    transform = build_transform(is_train=False, input_size=config.force_image_size)
    for path in films:
        tiles = dynamic_preprocess(
            Image.open(path).convert("RGB"), min_num=config.min_dynamic_patch, max_num=config.max_dynamic_patch,
            image_size=config.force_image_size, use_thumbnail=config.use_thumbnail,
        )  # fmt: skip
        pixels = torch.stack([transform(one) for one in tiles])
        arrays[f"{text}-{path.stem}"] = pixels.numpy()
        turns = get_conv_template(config.template)
        turns.append_message(turns.roles[0], f"<image>\n{asked['question']}")
        turns.append_message(turns.roles[1], None)
        shown = f"<img>{'<IMG_CONTEXT>' * model.num_image_token * len(pixels)}</img>"
        given = tokenizer(turns.get_prompt().replace("<image>", shown, 1), return_tensors="pt")
        end = tokenizer.convert_tokens_to_ids(turns.sep.strip())
        with torch.inference_mode():
            features = model.extract_feature(pixels)
            written = model.generate(
                pixel_values=pixels, input_ids=given["input_ids"], attention_mask=given["attention_mask"],
                max_new_tokens=asked["limit"], do_sample=False, eos_token_id=end, pad_token_id=end,
            )  # fmt: skip
        arrays[f"features-{text}-{path.stem}"] = features.reshape(-1, features.shape[-1]).numpy()
        ids[f"{text} {path.stem}"] = given["input_ids"][0].tolist()
        ids[f"greedy {text} {path.stem}"] = written[0, 1:].tolist()  # this release begins with a start token
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text(json.dumps({"ids": ids}))
