"""Begin a training from the weights of an earlier firstread-mini: what has the same name and meaning is taken over."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from models.networks.mini import CONFIG_FILE, TASKS, WEIGHTS_FILE, FirstreadMini, load_tokenizer

EMBEDDING = "language.model.embed_tokens.weight"
HEAD = "language.lm_head.weight"


def _layers(weights: dict[str, Tensor]) -> set[int]:
    return {int(name.split(".")[3]) for name in weights if name.startswith("language.model.layers.")}


@torch.no_grad()
def start_from(network: FirstreadMini, tokenizer: Tokenizer, folder: Path) -> int:
    """Copy the tensors of ``folder`` that fit into ``network``; gives how many.

    Words and tasks are matched by name. Layers of the language model that the earlier one did not have start as
    doing nothing. Raises ValueError where the vision tower does not fit.
    """
    earlier = load_file(folder / WEIGHTS_FILE)
    renamed = {
        f"joiner.{name}" if name.startswith("connector.") else name: values
        for name, values in earlier.items()
    }
    ours = network.state_dict()
    missing = [name for name in ours if name.startswith("vision.") and name not in renamed]
    if missing:
        raise ValueError(f"the vision tower in {folder} is another one: it lacks {missing[0]}")
    embedding = renamed.pop(EMBEDDING, None)
    head = renamed.pop(HEAD, None)
    words = embedding if embedding is not None else head
    tasks = json.loads((folder / CONFIG_FILE).read_text())["tasks"]
    asked = renamed.pop("joiner.connector.task_tokens", None)
    if asked is not None:
        for place, task in enumerate(tasks):
            ours["joiner.connector.task_tokens"][TASKS.index(task)] = asked[place]
    if words is not None:
        table, vocabulary = ours[EMBEDDING], load_tokenizer(folder).get_vocab()
        table.mul_(words.std() / table.std())
        for token, index in tokenizer.get_vocab().items():
            if token in vocabulary:
                table[index] = words[vocabulary[token]]
    taken = 0
    for name, values in renamed.items():
        if name in ours and ours[name].shape == values.shape:
            ours[name].copy_(values)
            taken += 1
    held = _layers(renamed)
    for name, values in ours.items():
        added = name.startswith("language.model.layers.") and int(name.split(".")[3]) not in held
        if added and ("o_proj" in name or "down_proj" in name):
            values.zero_()
    network.load_state_dict(ours)
    return taken
