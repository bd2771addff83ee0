"""Greedy texts in batches, the same tokens as one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from models.runners.written_text import WrittenText


class OwnTokensPenalty:
    """Repetition penalty over a row's own tokens.

    transformers' own processor also penalises the padding on the left, which in a batch is often the end token: a
    row would then end later than alone.
    """

    supports_continuous_batching = False

    def __init__(self, penalty: float, starts: Sequence[int]) -> None:
        """``starts`` is the first position of each row that is not padding."""
        self._penalty, self._starts = penalty, tuple(starts)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """See transformers' ``LogitsProcessor``."""
        import torch

        for row, start in enumerate(self._starts):
            seen = input_ids[row, start:].unique()
            known = scores[row, seen]
            scores[row, seen] = torch.where(known < 0, known * self._penalty, known / self._penalty)
        return scores


def write_texts(
    network: Any,
    prompts: Sequence[Sequence[int]],
    limit: int,
    *,
    ends: Sequence[int],
    pad: int,
    repetition_penalty: float = 1.0,
    least: int = 0,
    constraint: Callable[[Sequence[int]], Any] | None = None,
    batch: int = 16,
) -> list[WrittenText]:
    """One text of at most ``limit`` and at least ``least`` tokens per prompt of token ids, in order.

    ``constraint`` gives a logits processor for rows of ``prompts``, named by their places. Rows of like length are
    written together. ``pad`` fills rows up and is never read.
    """
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    written: dict[int, WrittenText] = {}
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        processors = [constraint(rows)] if constraint is not None else []
        texts = _write(
            network, [prompts[row] for row in rows], (least, limit), ends, pad, repetition_penalty, processors
        )
        written.update(zip(rows, texts, strict=True))
    return [written[row] for row in range(len(prompts))]


def _write(
    network: Any,
    prompts: Sequence[Sequence[int]],
    bounds: tuple[int, int],
    ends: Sequence[int],
    pad: int,
    penalty: float,
    processors: list[Any],
) -> list[WrittenText]:
    import torch
    from transformers import LogitsProcessorList

    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    if penalty != 1.0:
        processors = [OwnTokensPenalty(penalty, [longest - len(prompt) for prompt in prompts]), *processors]
    with torch.inference_mode():
        rows = network.generate(
            input_ids=ids.to(network.device),
            attention_mask=mask.to(network.device),
            max_new_tokens=bounds[1],
            min_new_tokens=min(bounds) or None,
            do_sample=False,
            eos_token_id=list(ends),
            pad_token_id=pad,
            logits_processor=LogitsProcessorList(processors),
        )[:, longest:].tolist()
    return [until_end(row, ends) for row in rows]


def until_end(row: list[int], ends: Sequence[int]) -> WrittenText:
    """The tokens of a row before the first of ``ends``."""
    for place, token in enumerate(row):
        if token in ends:
            return WrittenText(tuple(row[:place]), truncated=False)
    return WrittenText(tuple(row), truncated=True)
