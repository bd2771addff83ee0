"""MedGemma has no code of its own: Gemma 3's processor, as its card uses it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import Gemma3ImageProcessor, Gemma3Processor, GemmaTokenizerFast

films = sorted(Path("films").glob("*.png"))
tokenizer = GemmaTokenizerFast.from_pretrained("weights")
names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
for name, text in names.items():
    setattr(tokenizer, name, text)
    setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(text))
image_processor = Gemma3ImageProcessor.from_pretrained("weights")
template = Path("weights/chat_template.jinja").read_text()
processor = Gemma3Processor(image_processor, tokenizer, chat_template=template, image_seq_length=4)
pictures = [Image.open(path).convert("RGB") for path in films]
arrays = {
    path.stem: image_processor(images=[one], return_tensors="np")["pixel_values"]
    for path, one in zip(films, pictures, strict=True)
}
ids = {}
for name, (words, count) in json.loads(Path("asked.json").read_text()).items():
    content = [{"type": "text", "text": words}] + [{"type": "image"}] * count
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "You are an expert radiologist."}]},
        {"role": "user", "content": content},
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    made = processor(
        text=[text], images=[pictures[2 : 2 + count]], add_special_tokens=False, return_tensors="np"
    )
    ids[name] = made["input_ids"][0].tolist()
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text(json.dumps({"ids": ids}))
