"""The torch side of firstread-mini: the network from its weights, its graphs, and the record of its self-check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.families.mini.domain import DOMAIN_FILE
from models.families.mini.films import FILMS_FILE
from models.families.mini.joining import fixed_joining
from models.networks.mini import (
    CONFIG_FILE,
    EOS_ID,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    FirstreadMini,
    MiniConfig,
    Readout,
    prompt_ids,
)
from models.runners.decoder_graph import build_decoder, shape_of
from models.runners.encoder import TOLERANCE, EncoderSource, TorchEncoder, export_encoder
from models.runners.graph_cache import DECODER_FILE, EMBEDDING_FILE, ENCODER_FILE, JOINER_FILE, Exported
from models.vocabulary.task_words import LANGUAGES
from models.weight_loading.verified import (
    SelfCheck,
    check_keys,
    file_digest,
    fixed_pixels,
    read_weights,
    sample_outputs,
)
from pipeline.errors import StopRun

FILES = (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE)
BESIDE = (FILMS_FILE, DOMAIN_FILE)
"""Files that a weights folder may have, checked like the others."""
OUTPUTS = ("heat", *Readout._fields, "pooled", "cells", "outlines", "labelled")
JOINED = ("film", "region_token")
TIED = ("language.lm_head.weight", "language.model.embed_tokens.weight")
FIXED_IMAGES = 2


class _Encoder(nn.Module):
    """Tower, heads, outlines and label networks as one graph: float32 in and out, whatever the weights are in."""

    def __init__(self, network: FirstreadMini) -> None:
        super().__init__()
        self.vision, self.heads = network.vision, network.heads
        self.outlines, self.labels = network.outlines, network.labels

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        films = pixels.to(next(self.vision.parameters()).dtype)
        seen, drawn, labelled = self.vision(films), self.outlines(films), self.labels(films)
        out = Readout(seen.tokens, seen.presence, *self.heads(seen))
        told = (seen.heat, *out, seen.pooled, seen.cells, drawn, labelled)
        return tuple(values.float() for values in told)


class _Joiner(nn.Module):
    """The joiner as one graph over the fields of a readout, one by one."""

    def __init__(self, network: FirstreadMini) -> None:
        super().__init__()
        self.joiner = network.joiner

    def forward(
        self,
        tokens: Tensor,
        presence: Tensor,
        boxes: Tensor,
        organs: Tensor,
        landmarks: Tensor,
        severity: Tensor,
        zone: Tensor,
        state: Tensor,
        region: Tensor,
        task: Tensor,
        side: Tensor,
        sided: Tensor,
        before: Tensor,
        compared: Tensor,
        box: Tensor,
    ) -> tuple[Tensor, Tensor]:
        read = Readout(tokens, presence, boxes, organs, landmarks, severity, zone, state, region)
        film, asked = self.joiner(read, task, side, sided, before, compared, box)
        return film, asked


def load_network(folder: Path) -> FirstreadMini:
    """The network of a weights folder. Raises StopRun when file, configuration or tensors are not this network's."""
    try:
        network = FirstreadMini(MiniConfig.from_json((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StopRun("weights", f"{CONFIG_FILE} is not of this network ({type(error).__name__})") from None
    found = read_weights(folder / WEIGHTS_FILE)
    held = [name for name in TIED if name in found]
    if len(held) == 1:  # safetensors keeps one name of a tensor that has two
        found.update(dict.fromkeys(TIED, found[held[0]]))
    expected = network.state_dict()
    check_keys(expected, found)
    for name, tensor in expected.items():
        if tuple(tensor.shape) != found[name].shape:
            raise StopRun(
                "weights", f"{name} has another shape than this network's; they do not belong together"
            )
    network.load_state_dict({name: torch.from_numpy(values) for name, values in found.items()})
    return network.eval()


def encoder_source(network: FirstreadMini) -> EncoderSource:
    """The encoder to export, with the self-check's input as its example."""
    return EncoderSource(_Encoder(network).eval(), fixed_inputs(network.config.vision.image_size), OUTPUTS)


def fixed_inputs(size: int) -> dict[str, NDArray[Any]]:
    """The inputs of the self-check: two films."""
    return {"pixels": fixed_pixels((FIXED_IMAGES, 1, size, size))}


def joiner_source(network: FirstreadMini, outputs: Mapping[str, NDArray[Any]]) -> EncoderSource:
    """The joiner to export, with :func:`fixed_joining` of the encoder's ``outputs`` as its example."""
    return EncoderSource(_Joiner(network).eval(), fixed_joining(outputs), JOINED)


def export_graphs(weights: Path, folder: Path) -> Exported:
    """Write the encoder's and the decoder's graph and the token embeddings of ``weights`` into ``folder``."""
    network = load_network(weights)
    config = network.config
    source = encoder_source(network)
    error = export_encoder(source, folder / ENCODER_FILE)
    with TorchEncoder(source) as reference:
        joiner = joiner_source(network, reference.encode(source.inputs))
    error = max(error, export_encoder(joiner, folder / JOINER_FILE))
    shape = shape_of(network.language.config)
    tensors = {name: tensor.numpy() for name, tensor in network.language.state_dict().items()}
    model = build_decoder(shape, tensors)
    (folder / DECODER_FILE).write_bytes(model.SerializeToString(deterministic=True))
    np.save(folder / EMBEDDING_FILE, tensors["model.embed_tokens.weight"])
    prompts = {
        f"{task}/{language}": prompt_ids(task, language) for task in config.tasks for language in LANGUAGES
    }
    settings = {
        "image_size": config.vision.image_size,
        "kinds": config.kinds,
        "tasks": config.tasks,
        "max_new_tokens": config.max_new_tokens,
        "end": EOS_ID,
        "prompts": prompts,
        "film_tokens": config.film_tokens,
        "positions": config.language.positions,
    }
    return Exported(error, TOLERANCE, shape, settings)


def record_self_check(folder: Path) -> SelfCheck:
    """What ``selfcheck.json`` of a weights folder has to say, computed in torch."""
    network = load_network(folder)
    source = encoder_source(network)
    with TorchEncoder(source) as reference:
        outputs: Mapping[str, NDArray[Any]] = reference.encode(source.inputs)
    with TorchEncoder(joiner_source(network, outputs)) as joiner:
        joined = joiner.encode(fixed_joining(outputs))
    with torch.inference_mode():
        ids = torch.tensor(prompt_ids()).expand(FIXED_IMAGES, -1)
        logits = network.text_logits(torch.from_numpy(joined["film"]), ids)[:, -1].numpy()
    beside = [name for name in BESIDE if (folder / name).exists()]
    files = {name: file_digest(folder / name) for name in (*FILES, *beside)}
    return SelfCheck(files, sample_outputs({**outputs, **joined, "logits": logits}))
