"""Let the last layer of the language model begin able to copy a coordinate from a film's tokens into a number.

Which token to look at is learned quickly once what is read there means something; both at once takes far longer than
this training lasts. So head c of the last layer starts by writing the number of coordinate c of whatever token it looks
at: value and output projections are the best linear reading, by least squares, of the tokens of some studies.
"""

from typing import Any

import torch
from torch import Tensor

from models.networks.heads import LANDMARKS, NUMBERS, ORGANS
from models.networks.mini import COARSE, FirstreadMini

GAIN = 0.6
"""Length of a copied number, of the usual length of what it is added to."""
RIDGE = 1e-3


@torch.no_grad()
def begin_copying(network: FirstreadMini, pixels: Tensor, first_number: int) -> list[float]:
    """Set the last layer up from frontal films ``pixels`` [n, 1, S, S]; ``first_number`` is the token of 0.

    Gives, per coordinate, the share of readings whose nearest number is within three of the right one.
    """
    layer: Any = network.language.model.layers[-1]
    reading = network.read(pixels)
    film = network.join(reading.out, network.task_index("detect", len(pixels)).to(pixels.device)).film
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(
        lambda module, given, named: seen.append(given[0] if given else named["hidden_states"]),
        with_kwargs=True,
    )
    network.language.model(inputs_embeds=film, use_cache=False)
    hook.remove()
    states, slots = layer.input_layernorm(seen[0]), network.joiner.slots
    words: Any = network.language.get_input_embeddings()
    numbers = words.weight[first_number : first_number + NUMBERS]
    layer.mlp.down_proj.weight.zero_()
    layer.self_attn.o_proj.weight.zero_()
    width = layer.self_attn.head_dim
    length = GAIN * float(seen[0][:, -1].norm(dim=-1).median()) / float(numbers.norm(dim=-1).mean())
    organs = slots + COARSE**2
    heads = reading.heads
    near = []
    for place in range(4):
        parts = [
            (states[:, :slots], heads.boxes[..., place]),
            (states[:, organs : organs + ORGANS], heads.organs[..., place]),
        ]
        if place < 2:
            parts.append((states[:, organs + ORGANS :][:, :LANDMARKS], heads.landmarks[..., place]))
        tokens = torch.cat([state.flatten(0, 1) for state, _ in parts])
        share = torch.cat([coordinate.flatten() for _, coordinate in parts])
        wanted = (share.clamp(0, 1) * (NUMBERS - 1)).round().long()
        square = tokens.T @ tokens / len(tokens) + RIDGE * torch.eye(tokens.shape[1], device=tokens.device)
        reads = torch.linalg.solve(square, tokens.T @ numbers[wanted] / len(tokens))
        left, size, right = torch.linalg.svd(reads)
        root = (size[:width] * length).sqrt()
        layer.self_attn.v_proj.weight[place * width : (place + 1) * width] = (left[:, :width] * root).T
        layer.self_attn.o_proj.weight[:, place * width : (place + 1) * width] = right[:width].T * root
        nearest = torch.cdist(tokens @ reads, numbers).argmin(dim=-1)
        near.append(float(((nearest - wanted).abs() <= 3).float().mean()))
    return near
