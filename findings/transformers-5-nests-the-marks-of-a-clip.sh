#!/usr/bin/env bash
# Of one prompt with a clip, Qwen3-VL's processor of transformers 5 makes other tokens than that of 4.57 did.
#
# Versions: transformers 5.23.0 and 4.57.1, torch 2.13.0, torchvision 0.28.0 (PyPI).
# Expected: a template writes a clip as <|vision_start|><|video_pad|><|vision_end|>; the processor puts in its place, for
#   each pair of frames, the time in words and the tokens of the pair between one <|vision_start|> and one
#   <|vision_end|>. So 4.57.1 does, the release that brought Qwen3-VL: it replaces the three marks together.
# Seen: 5.23.0 replaces <|video_pad|> alone, so the template's own marks stay around all of it: the first time stands
#   behind a <|vision_start|> of its own, and the last pair ends in two <|vision_end|>. Pixels and grids are the same.
#   No warning is given; a model is asked with a prompt that it was not trained on.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv new
timeout 1200 new/bin/pip install -q --no-compile --disable-pip-version-check transformers==5.23.0 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6
python3 -m venv old
timeout 300 old/bin/pip install -q --no-compile --disable-pip-version-check transformers==4.57.1 numpy==2.4.6
(cd new/lib/python3*/site-packages && pwd) > lent.pth
cp lent.pth "$(echo old/lib/python3*/site-packages)/lent.pth"
cat > ask.py <<'PY'
import json

import numpy as np
import torch

for name in ("nms", "qnms"):  # a torchvision built for another torch lacks its operators, and no transform here needs one
    try:
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

marks = ["<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
backend = Tokenizer(models.BPE(vocab={one: at for at, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = transformers.Qwen2TokenizerFast(
    tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None,
    additional_special_tokens=marks[2:],
)
slow = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
videos = transformers.Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 25165824})
processor = transformers.Qwen3VLProcessor(slow(patch_size=16), tokenizer, videos, chat_template="-")
clip = np.random.default_rng(0).integers(0, 256, (30, 90, 130, 3), np.uint8)
told = {"total_num_frames": 30, "fps": 7.5, "width": 130, "height": 90, "duration": 4.0, "video_backend": "-"}
prompt = "<|vision_start|><|video_pad|><|vision_end|>What?"
made = processor(text=[prompt], videos=[clip], video_metadata=[told], return_tensors="pt")
text = tokenizer.decode(made["input_ids"][0])
values = made["pixel_values_videos"]
print(json.dumps([transformers.__version__, text.replace("<|video_pad|>", ""), list(values.shape), float(values.sum())]))
PY
timeout 300 new/bin/python -W ignore ask.py 2>errors | tail -1 | tee new.json
timeout 300 old/bin/python -W ignore ask.py 2>errors | tail -1 | tee old.json
new/bin/python - <<'PY'
import json

(_, new, *shown), (_, old, *before) = (json.loads(open(f"{one}.json").read()) for one in ("new", "old"))
pair = "<|vision_start|><|vision_end|>"
times = ["<0.3 seconds>", "<1.3 seconds>", "<2.5 seconds>", "<3.6 seconds>"]
inside = "".join(time + pair for time in times)
assert old == f"{inside}What?", old
assert new == f"<|vision_start|>{inside}<|vision_end|>What?", new
assert shown[0] == before[0] and abs(shown[1] - before[1]) < 1, (shown, before)
PY
