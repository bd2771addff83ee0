"""MedGemma 1.5 as a family: an earlier film beside the current one, and planes of a CT in three windows.

Where a study brings an earlier film its draft is asked as the authors' notebook asks: the earlier film first, both
padded to a square. Planes are shown in colour, a window in each channel, and each stands before its number.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog import CatalogEntry
from models.families.native.chat import LOADERS, ChatFamily
from models.families.native.medgemma import MedGemmaDialect
from models.family import Features, Request, Task
from models.model_choice import ModelChoice
from pipeline.errors import FailStudy
from pipeline.study import LATERAL_VIEWS, ImageSet

DRAFTS = (Task.REPORT, Task.FINDINGS)


class MedGemmaFamily(ChatFamily):
    """See ``models.family.Family``. Features: as ChatFamily, and ``prior`` uint8 [0 or 1, S, S], padded to a square."""

    _dialect: MedGemmaDialect

    def __init__(self, *given: Any, **settings: Any) -> None:
        """As ChatFamily."""
        super().__init__(*given, **settings)
        self.traits = replace(self.traits, reads_priors=self._dialect.compares)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``."""
        encoded = super().encode(studies)
        return [
            replace(one, arrays={**one.arrays, "prior": self._prior(study)})
            for one, study in zip(encoded, studies, strict=True)
        ]

    def _prior(self, study: ImageSet) -> NDArray[np.uint8]:
        earlier = [one for one in study.priors if one.view not in LATERAL_VIEWS and self._dialect.compares][
            :1
        ]
        size = self._loaded.processor.size
        empty = np.zeros((0, size["height"], size["width"]), np.uint8)
        return np.concatenate([empty, *(self._padded(one)[None] for one in earlier)])

    def _compares(self, features: Features, request: Request) -> bool:
        return self._dialect.compares and request.task in DRAFTS and len(features.arrays["prior"]) > 0

    def _worded(self, features: Features, request: Request, modality: str, found: Any) -> str:
        if self._compares(features, request):
            return self._dialect.word_compared(request, features.images)
        return super()._worded(features, request, modality, found)

    def _values(self, features: Features, request: Request) -> NDArray[Any]:
        if self._compares(features, request):
            squares = [features.arrays["prior"][0], features.arrays["padded"][0]]
            pictures = [Image.fromarray(grey).convert("RGB") for grey in squares]
            return self._encoder.encode({"pixels": self._pixels(pictures)})["features"]
        if request.task is Task.DETECT and not len(features.arrays["padded"]):
            raise FailStudy(
                "no-films", "boxes are asked of films: planes of a series have none by this model"
            )
        return super()._values(features, request)


def open_medgemma(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> MedGemmaFamily:
    """MedGemma with the weights of ``choice``. Raises ConfigurationError, StopRun."""
    return MedGemmaFamily(
        entry,
        LOADERS[entry.adapter](choice.folder(entry), choice.precision),
        MedGemmaDialect(entry.prompts, entry.images),
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )
