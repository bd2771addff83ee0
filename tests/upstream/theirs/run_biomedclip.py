"""BiomedCLIP: open_clip's own transform of its published configuration."""

import json
from pathlib import Path

import lent
import numpy as np
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

assert lent
stored = json.loads(Path("weights/open_clip_config.json").read_text())
settings = PreprocessCfg(size=stored["model_cfg"]["vision_cfg"]["image_size"], **stored["preprocess_cfg"])
transform = image_transform_v2(settings, is_train=False)
films = sorted(Path("films").glob("*.png"))
np.savez("theirs.npz", **{path.stem: transform(Image.open(path)).numpy()[None] for path in films})
Path("theirs.json").write_text("{}")
