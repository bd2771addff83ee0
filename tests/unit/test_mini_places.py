"""The language model says what is there; where it is comes from the reading heads."""

import numpy as np
import pytest

from models.families.mini.places import Places, write_places
from models.vocabulary.english import KINDS


def places() -> Places:
    boxes = np.array([[s / 20, 0.1, s / 20 + 0.2, 0.5] for s in range(2 * len(KINDS))], np.float32)
    organs = np.array([[0.05, 0.1, 0.45, 0.9], [0.5, 0.1, 0.95, 0.9], [0.4, 0.4, 0.8, 0.8]], np.float32)
    landmarks = np.stack([np.arange(8) / 10, np.full(8, 0.3)], axis=1).astype(np.float32)
    presence = np.full((len(KINDS), 3), -2, np.float32)
    presence[KINDS.index("pleural_effusion"), 2] = 3
    return Places(boxes, organs, landmarks, presence)


@pytest.mark.parametrize(
    ("prompt", "answer", "wanted"),
    [
        ("<detect><en> Where is the heart?", "{<0><0><9><9>}", "{<40><40><80><80>}"),
        ("<detect><zh>左肺在哪里？", "{<0><0><9><9>}", "{<50><10><95><90>}"),
        ("<detect><en> Where is the right nodule?", "{<0><0><9><9>}", "{<0><10><20><50>}"),
        ("<detect><en> Where is the pleural effusion?", "{<0><0><9><9>}", "{<25><10><45><50>}"),
        ("<detect><en> Where is the heart?", "No heart.", "No heart."),
        ("<landmark><en> Where is the carina?", "{<1><2>}", "{<70><30>}"),
        ("<landmark><zh>心尖在哪里？", "{<1><2>}", "{<60><30>}"),
        ("<vqa><en> Is there a nodule?", "Yes.", "Yes."),
        (
            "<grounded_report><en>",
            "Findings: The lungs are clear. There are bilateral pleural effusions {<1><1><2><2>}. No pneumothorax.",
            "Findings: The lungs are clear. There are bilateral pleural effusions "
            "{<20><10><40><50>}{<25><10><45><50>}. No pneumothorax.",
        ),
        (
            "<grounded_report><zh>",
            "检查所见：左肺中野见结节影{<1><1><2><2>}。心影增大{<1><1><2><2>}。",
            "检查所见：左肺中野见结节影{<5><10><25><50>}。心影增大{<40><10><60><50>}。",
        ),
    ],
)
def test_places_are_those_of_the_heads(prompt: str, answer: str, wanted: str) -> None:
    assert write_places(prompt, answer, places()) == wanted


def test_a_box_always_has_an_area() -> None:
    flat = places()
    flat.organs[2] = (1.0, 1.0, 1.0, 1.0)
    assert write_places("<detect><en> Where is the heart?", "{<0><0><9><9>}", flat) == "{<99><99><100><100>}"
