"""Uni-Med: its image processor, its connector with its own tower, and the checkpoint that its trainer would save."""

import json
import os
import sys
import types
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lent
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

assert lent
root = Path(os.environ["CODE"])
for name in ("uni_med", "uni_med.processors", "uni_med.models", "uni_med.common"):
    package = types.ModuleType(name)  # their beginnings import the data sets
    package.__path__ = [str(root / name.replace(".", "/"))]
    sys.modules[name] = package
sys.modules["uni_med.models"].BaseModel = torch.nn.Module  # type: ignore[attr-defined]
from uni_med.processors.base_processor import BaseProcessor  # noqa: E402

sys.modules["uni_med.processors"].BaseProcessor = BaseProcessor  # type: ignore[attr-defined]
base = types.ModuleType("uni_med.models.uni_med_base")
SHAPE = json.loads(Path("shape.json").read_text())


class UniMedBase(torch.nn.Module):
    """Tower and norm as theirs builds them, small; a language model of which only the width is asked."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        from uni_med.models.eva_vit import VisionTransformer

        norm = partial(torch.nn.LayerNorm, eps=1e-6)
        self.visual_encoder = VisionTransformer(qkv_bias=True, norm_layer=norm, **SHAPE["tower"])
        self.visual_encoder.num_features = SHAPE["tower"]["embed_dim"]
        self.ln_vision = torch.nn.LayerNorm(self.visual_encoder.num_features)
        self.llm_model = SimpleNamespace(config=SimpleNamespace(hidden_size=SHAPE["language_width"]))
        for part in (self.visual_encoder, self.ln_vision):
            part.requires_grad_(False)

    def maybe_autocast(self) -> Any:
        return torch.autocast("cpu", enabled=False)


base.UniMedBase = UniMedBase  # type: ignore[attr-defined]
sys.modules["uni_med.models.uni_med_base"] = base
from uni_med.models.uni_med import UniMed  # noqa: E402
from uni_med.processors.blip_processors import Blip2ImageEvalProcessor  # noqa: E402

films = sorted(Path("films").glob("*.png"))
process = Blip2ImageEvalProcessor(image_size=SHAPE["tower"]["img_size"])
pixels = {path.stem: process(Image.open(path).convert("RGB")) for path in films}
arrays = {name: one.numpy()[None] for name, one in pixels.items()}
torch.manual_seed(0)
model = UniMed(**SHAPE["connector"]).eval()
with torch.no_grad():
    for name, one in model.named_parameters():
        if one.dim() > 1 and "visual" not in name:
            one.mul_(3)
        if name.endswith(("q_bias", "v_bias")):
            one.normal_(0, 0.5)
    for task in model.tasks:
        made, _, _ = model.encode_img(torch.stack(list(pixels.values())), task)
        arrays[f"features-{task}"] = made.numpy()
trained = {name: one.requires_grad for name, one in model.named_parameters()}
state = model.state_dict()  # as runner_base.py saves it: what was not trained is left out
kept = {name: one.clone() for name, one in state.items() if trained.get(name, True)}
save_file(kept, "checkpoint.safetensors")
tower = {name: one.clone() for name, one in model.visual_encoder.state_dict().items()}
save_file(tower, "tower.safetensors")
np.savez("theirs.npz", **arrays)
Path("theirs.json").write_text("{}")
