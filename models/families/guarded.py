"""A brought family: running out of memory says what would fit, and weights that turn out otherwise stop it."""

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.family import Answer, Family, Features, Request, traits_of
from models.weight_loading.kept_check import KeptCheck
from models.weight_loading.memory import FreeMemory, Need, explaining_out_of_memory
from pipeline.study import ImageSet


class GuardedFamily:
    """``family`` with the memory it was estimated to need and the ``check`` of its kept digests.

    Everything else is the family's own. Once a digest is found wrong both verbs raise StopRun("weights").
    """

    def __init__(self, family: Family, need: Need, free: FreeMemory, check: KeptCheck) -> None:
        self.family, self._need, self._free, self.check = family, need, free, check
        self.model_id, self.model_version, self.runner = family.model_id, family.model_version, family.runner
        self.tasks, self.languages, self.parts = family.tasks, family.languages, family.parts
        self.traits = traits_of(family)

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """See ``models.family.Family``."""
        return self.family.prepare(study)

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``; StopRun("memory") where the memory does not suffice."""
        self.check.refuse()
        with explaining_out_of_memory(self.model_id, replace(self._need, batch=len(studies)), self._free):
            return self.family.encode(studies)

    def answer(self, features: Sequence[Features], requests: Sequence[Request]) -> list[Answer]:
        """See ``models.family.Family``; StopRun("memory") where the memory does not suffice."""
        self.check.refuse()
        with explaining_out_of_memory(self.model_id, replace(self._need, batch=len(requests)), self._free):
            return self.family.answer(features, requests)

    def __enter__(self) -> Self:
        self.family.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.check.close()
        self.family.__exit__(kind, error, trace)
