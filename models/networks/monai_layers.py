"""Layers as a MONAI bundle names them, by plain values: norms, activations, numbers within bounds."""

from collections.abc import Callable
from typing import Any

from torch import nn

from pipeline.errors import StopRun

_MOST = 4096
Layer = Callable[[int], nn.Module]
"""Given its channels."""


def unread(what: str) -> StopRun:
    """Of a bundle that says otherwise than is read here."""
    return StopRun("segmenter", f"the bundle is not read here: {what}")


def _named(said: Any) -> tuple[str, dict[str, Any]]:
    """A layer of a bundle: its name, or name and arguments."""
    if isinstance(said, str):
        return said.upper(), {}
    name, arguments = said
    return str(name).upper(), dict(arguments)


def norm_of(said: Any) -> Layer:
    name, arguments = _named(said)
    if name == "BATCH" and not arguments:
        return nn.BatchNorm3d
    if name == "INSTANCE" and set(arguments) <= {"affine", "eps"}:
        return lambda channels: nn.InstanceNorm3d(channels, **arguments)
    if name == "GROUP" and set(arguments) == {"num_groups"}:
        return lambda channels: nn.GroupNorm(number(arguments["num_groups"]), channels)
    raise unread(f"its networks normalise by {name.lower()}")


def act_of(said: Any) -> Layer:
    name, arguments = _named(said)
    arguments.pop("inplace", None)
    if name == "PRELU" and not arguments:
        return lambda _: nn.PReLU()
    if name == "RELU" and not arguments:
        return lambda _: nn.ReLU()
    if name == "LEAKYRELU" and set(arguments) <= {"negative_slope"}:
        return lambda _: nn.LeakyReLU(**arguments)
    raise unread(f"its networks are activated by {name.lower()}")


def number(value: Any) -> int:
    found = int(value)
    if not 1 <= found <= _MOST or found != value:
        raise ValueError
    return found


def odd(value: Any) -> int:
    sides = {int(one) for one in value} if isinstance(value, list) else {int(value)}
    (side,) = sides
    if not side % 2 or not 1 <= side <= 9:
        raise ValueError
    return side
