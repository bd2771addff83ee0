"""Films cut into tiles, and a family whose images have as many tokens as their tiles ask for.

InternVL shows its network a film as tiles of one size and the whole film once more, small; LLaVA-OneVision shows the
whole film first, then tiles whose features are joined to one picture again. The features of a study are one row of
tokens with the number of each image's beside it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.families.native.chat import ChatFamily, picture_of, seen_image
from models.families.native.dialect import IMAGE_MARK
from models.family import Features, Request
from pipeline.study import ImageSet, StudyImage


class Tiler(Protocol):
    """How one network is shown a film."""

    def cut(self, picture: Any) -> NDArray[np.float32]:
        """The tiles [n, 3, S, S] of an RGB picture, prepared."""
        ...

    def join(self, features: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """[tokens, width] of a picture of ``size`` (rows, columns), from its tiles' features [n, tokens, width]."""
        ...

    def __call__(self, images: Sequence[Any], return_tensors: str = "np") -> dict[str, Any]:
        """The tiles of all images under ``pixel_values``."""
        ...


class TiledFamily(ChatFamily):
    """See ``models.family.Family``. Features: ``features`` [tokens, width] and ``tokens`` [images], of each image."""

    def prepare(self, study: ImageSet) -> NDArray[np.float32]:
        """The tiles [n, 3, S, S] of all images of the study, one after the other. Raises SkipStudy."""
        return np.concatenate([self._cut(image) for image in self._choose(study)])

    def encode(self, studies: Sequence[ImageSet]) -> list[Features]:
        """See ``models.family.Family``; a film is encoded by itself, so that a batch changes no value."""
        chosen = [self._choose(study) for study in studies]
        return [self._encode(images) for images in chosen]

    def _encode(self, images: Sequence[StudyImage]) -> Features:
        rows = [self._see(image) for image in images]
        arrays: dict[str, NDArray[Any]] = {
            "features": np.concatenate(rows),
            "tokens": np.array([len(row) for row in rows], np.int64),
            "modality": np.array([image.modality for image in images]),
        }
        return Features(tuple(seen_image(image) for image in images), arrays)

    def _see(self, image: StudyImage) -> NDArray[np.float32]:
        values = self._encoder.encode({"pixels": self._cut(image)})["features"]
        joined: NDArray[np.float32] = self._loaded.processor.join(values, image.pixels.shape[:2])
        return joined

    def _cut(self, image: StudyImage) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._loaded.processor.cut(picture_of(image)), np.float32)

    def _insert(self, text: str, features: Features, request: Request) -> tuple[str, Any]:
        count = text.count(IMAGE_MARK)
        if not count:
            return text, None
        numbers = features.arrays["tokens"][:count].tolist()
        token = self._loaded.tokenizer.convert_ids_to_tokens(self._loaded.image_token)
        pieces = text.split(IMAGE_MARK)
        for place, number in enumerate(numbers):
            pieces[place] += self._loaded.image_text.replace(token, token * number)
        return "".join(pieces), features.arrays["features"][: sum(numbers)]

    def _give(self, seen: Sequence[Any], ids: Any) -> dict[str, Any]:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if not seen:
            return {}
        network = self._loaded.network
        values: Any = torch.from_numpy(np.concatenate(seen)).to(network.device, network.dtype)
        # InternVL's network takes one array of all tokens, LLaVA-OneVision's a list of such
        given: Any = [values] if network.config.model_type == "llava_onevision" else values
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=given)}}
