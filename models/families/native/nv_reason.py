"""NV-Reason-CXR-3B: it thinks aloud as a radiologist does, and answers with the names of what it found.

Sources: README, ``datalists/sft.jsonl`` and ``train/vlm_rewards.py`` of NVIDIA-Medtech/NV-Reason-CXR (35f11ca): the one
prompt that it was trained on, ``<think>...</think><answer>...</answer>``, and the fourteen names that an answer holds.
"""

from collections.abc import Sequence

from models.families.native.dialect import ParsedAnswer
from models.families.native.qwen_words import QwenWords
from models.family import Request, SeenImage, Task
from pipeline.report import Label

NAMES = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
"""What an answer to its own prompt consists of: the fourteen observations of CheXpert."""


class NvReasonWords(QwenWords):
    """NV-Reason-CXR. What it was asked by its own prompt and is no list of its names is no answer."""

    reasons = True
    most_tokens = 2048

    def __init__(self, prompts: str = "nv-reason-cxr.toml", most_images: int = 1) -> None:
        super().__init__(prompts, most_images)

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        if request.task not in (Task.FINDINGS, Task.CLASSIFY):
            return super().read(text, request, seen)
        named = read_names(text)
        if not named:
            return ParsedAnswer("", reasoning=text)
        known = {name.casefold() for name in NAMES}
        labels: tuple[Label, ...] = ()
        if request.task is Task.CLASSIFY and all(label.casefold() in known for label in request.labels):
            chosen = {name.casefold() for name in named}
            labels = tuple(Label(label, label.casefold() in chosen) for label in request.labels)
        return ParsedAnswer(", ".join(named), labels=labels)


def read_names(text: str) -> tuple[str, ...]:
    """The names that a comma-separated answer consists of; empty where it holds anything else or contradicts itself."""
    known = {name.casefold(): name for name in NAMES}
    parts = [part.strip().casefold() for part in text.strip().rstrip(".").split(",")]
    if any(part not in known for part in parts):
        return ()
    named = tuple(dict.fromkeys(known[part] for part in parts))
    return () if "No Finding" in named and set(named) - {"No Finding", "Support Devices"} else named
