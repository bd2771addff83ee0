"""Small networks that have learned a few texts by heart, in their published formats: what they write passes the checks.

A random network writes letters, which no check lets through. These see nothing (the projector gives zeros) and answer
each prompt with the text it was taught, so that the way from a film to FHIR can be gone with real weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.catalog import show
from models.families.native.chat import ChatFamily, picture_of
from models.families.native.medrega import MedRegaDialect
from models.families.native.networks import load_medrega
from models.families.native.qwen import QwenFamily
from models.families.native.qwen_dialects import WORDS
from models.families.native.qwen_loading import MOST_PIXELS, load_checkpoint
from models.family import Request
from pipeline.study import ImageSet
from tests.tiny_chat import write_chat_model
from tests.tiny_qwen import write_qwen

STEPS = 400
GOOD = 0.02
"""Mean loss a token at which every token of the texts is the likeliest by far."""


def teach(family: ChatFamily, study: ImageSet, texts: Mapping[Request, str], seed: int = 0) -> None:
    """Train the language model of ``family`` until it answers each request about ``study`` with its text."""
    torch.manual_seed(seed)
    loaded = family._loaded
    network = loaded.network
    (features,) = family.encode([study])
    pixels = loaded.processor(images=[picture_of(one) for one in family._choose(study)], return_tensors="pt")
    rows = []
    for request, text in texts.items():
        ids, seen = family._prompt(features, request, None)
        answer = [*loaded.tokenizer(text, add_special_tokens=False).input_ids, family._ends[0]]
        extra: dict[str, Any] = dict(pixels) if seen is not None else {}
        rows.append((torch.tensor([ids + answer]), torch.tensor([[-100] * len(ids) + answer]), extra))
    learned = [p for name, p in network.named_parameters() if "language_model" in name or "lm_head" in name]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        for parameter in learned:
            parameter.requires_grad_(True)
            if parameter.dim() > 1:
                parameter.normal_(std=0.08)
    network.train()
    optimiser = torch.optim.Adam(learned, lr=5e-3)
    worst = float("inf")
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 20) * (1 - step / STEPS)
        losses = []
        for tokens, labels, extra in rows:
            if "image_grid_thw" in extra:
                extra = {**extra, "mm_token_type_ids": (tokens == loaded.image_token).int()}
            losses.append(network(input_ids=tokens, labels=labels, **extra).loss)
        optimiser.zero_grad()
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        worst = max(loss.item() for loss in losses)
        if worst < GOOD:
            break
    network.eval()
    assert worst < GOOD * 10, f"the texts were not learned: {worst:.3f}"


def blind(network: Any) -> None:
    """Make every visual token zeros: the last layer before the language model gives nothing."""
    inner = network.model
    last = inner.visual.merger.mlp[2] if hasattr(inner, "visual") else inner.multi_modal_projector.linear_2
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()


def save_medrega(folder: Path, network: Any) -> None:
    """Write what was learned, and the blind projector, back under the published names."""
    native = network.state_dict()
    for path in sorted(folder.glob("*.safetensors")):
        held = load_file(path)
        for name in held:
            if name == "language_model.lm_head.weight":
                held[name] = native["lm_head.weight"]
            elif name.startswith("language_model.model."):
                held[name] = native[f"model.{name.replace('.model.', '.', 1)}"]
            elif name.startswith("mlp1.3."):
                held[name] = torch.zeros_like(held[name])
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, path)


def write_taught_qwen(folder: Path, model_id: str, study: ImageSet, texts: Mapping[Request, str]) -> Path:
    """A folder of a taught Qwen2.5-VL, for CheXOne or Lingshu."""
    entry = show(model_id)
    write_qwen(folder, "qwen2.5-vl", MOST_PIXELS.get(entry.prompts, 262_144))
    loaded = load_checkpoint(entry, folder, "auto")  # at the sizes that the product shows films in
    blind(loaded.network)
    words = WORDS[entry.prompts](entry.prompts, entry.images)
    with QwenFamily(entry, loaded, words, folder, require_runner="torch") as family:
        teach(family, study, texts)
        loaded.network.save_pretrained(folder)
    return folder


def write_taught_medrega(folder: Path, study: ImageSet, texts: Mapping[Request, str]) -> Path:
    """A folder of a taught MedRegA."""
    loaded = load_medrega(write_chat_model(folder, "medrega"))
    blind(loaded.network)
    with ChatFamily(show("medrega"), loaded, MedRegaDialect(), folder, require_runner="torch") as family:
        teach(family, study, texts)
        save_medrega(folder, loaded.network)
    return folder
