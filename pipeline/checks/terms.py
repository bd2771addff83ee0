"""Every finding that the checks recognise, and which of them may go by each other's name."""

from typing import Final

from pipeline.checks.lung_terms import PLEURA_AND_LUNG
from pipeline.checks.other_terms import DEVICES, HEART_AND_MEDIASTINUM, WALL_AND_ABDOMEN

LEXICON: Final = (*PLEURA_AND_LUNG, *HEART_AND_MEDIASTINUM, *WALL_AND_ABDOMEN, *DEVICES)
"""Every finding the checks know, whichever family wrote the draft."""

RELATED: Final = {
    "pneumonia": ("consolidation", "opacity"),
    "consolidation": ("pneumonia", "opacity"),
    "opacity": ("pneumonia", "consolidation", "nodule", "mass", "atelectasis", "edema"),
    "nodule": ("mass", "opacity"),
    "mass": ("nodule", "opacity"),
    "atelectasis": ("opacity", "consolidation", "raised_diaphragm"),
    "cavity": ("nodule", "mass", "consolidation", "opacity"),
}
"""Findings under whose name Findings may describe what the Impression calls by the key: one side suits both."""
