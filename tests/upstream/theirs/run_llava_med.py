"""LLaVA-Med: its ``process_images``, its conversation and its tokens around an image."""

import json
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace

import lent
import numpy as np
from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
from llava.mm_utils import process_images, tokenizer_image_token
from PIL import Image
from transformers import CLIPImageProcessor, PreTrainedTokenizerFast

assert lent
random.randint = lambda first, last: first  # type: ignore[assignment]
"""They draw where a film begins on its square, in the middle or a pixel after it: the middle is compared."""
films = sorted(Path("films").glob("*.png"))
processor = CLIPImageProcessor.from_pretrained("weights")
config = SimpleNamespace(image_aspect_ratio="pad")
arrays = {
    path.stem: np.asarray(process_images([Image.open(path).convert("RGB")], processor, config))
    for path in films
}
tokenizer = PreTrainedTokenizerFast.from_pretrained("weights")
ids = {}
for name, words in json.loads(Path("asked.json").read_text()).items():
    turns = conv_templates["mistral_instruct"].copy()
    turns.append_message(turns.roles[0], DEFAULT_IMAGE_TOKEN + "\n" + words)
    turns.append_message(turns.roles[1], None)
    ids[name] = tokenizer_image_token(turns.get_prompt(), tokenizer, IMAGE_TOKEN_INDEX)
words = (Path(os.environ["CODE"]) / "llava/eval/model_vqa.py").read_text()
limits = {"new tokens": int(re.findall(r"max_new_tokens=(\d+)", words)[0])}
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text(json.dumps({"ids": ids, "limits": limits}))
