#!/usr/bin/env bash
# A 16-bit radiograph as PNG goes into CLIP and SigLIP all but white: 15 of 16 grey levels are cut to 255 in silence.
#
# Versions: transformers 5.23.0, pillow 13.0.0, numpy 2.4.6 (the processors' Pillow backend, which is theirs without torchvision).
# Expected: an image of mode I;16 with values 0 to 4095, as a CR is exported, is scaled to the range that the processor
#   makes of eight bits, or is refused as an array of such values is.
# Seen: both processors convert to RGB by Pillow, which cuts I;16 at 255: of a ramp over 4096 levels 94 of 100 pixels
#   have the top value, the rest is a ramp over the darkest 256 levels. No warning, and the shape and range are those of
#   a good image. Pillow's own 8-bit "L" of the same file is cut alike. ViT's processor, which converts nothing
#   unless told to, refuses the image with ValueError.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check transformers==5.23.0 pillow==13.0.0 numpy==2.4.6
export HF_HUB_OFFLINE=1 HOME="$work"
timeout 100 v/bin/python - <<'PY'
import warnings

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor

ramp = np.tile(np.arange(4096, dtype=np.uint16), (224, 1))
Image.fromarray(ramp).save("ramp.png")
image = Image.open("ramp.png")
assert image.mode == "I;16" and (np.asarray(image) == ramp).all()
print("as L:", int((np.asarray(image.convert("L")) == 255).mean() * 100), "of 100 pixels are 255")
image = image.resize((224, 224), Image.Resampling.NEAREST)
kinds = {"CLIP": CLIPImageProcessor, "SigLIP": SiglipImageProcessor, "ViT": ViTImageProcessor}
top = {}
with warnings.catch_warnings():
    warnings.simplefilter("error")  # a warning would be a word
    for name, kind in kinds.items():
        try:
            made = kind()(image, return_tensors="np")["pixel_values"][0, 0]
        except ValueError as why:
            print(f"{name:6} {str(why)[:107]}")
            top[name] = "refused"
            continue
        top[name] = round(float((made == made.max()).mean()), 2)
        print(f"{name:6} {made.shape}, {made.min():.2f} to {made.max():.2f}, at the top {top[name]}")
assert top == {"CLIP": 0.94, "SigLIP": 0.94, "ViT": "refused"}, top
PY
