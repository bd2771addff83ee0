"""Ask a network in torch many questions about many studies, in batches: what evaluation counts are its answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.families.mini.certainty import RealReader, Shown, write_certain
from models.families.mini.films import Reading, thumbnail_and_histogram
from models.families.mini.outlines import measure_outlines
from models.families.mini.places import Places, write_places
from models.networks.mini import EOS_ID, PAD_ID, FirstreadMini, Joined, Readout
from models.runners.encoder import VisionEncoder

BATCH = 64
BESIDE = ("heat", "pooled", "cells", "outlines", "labelled")
"""What is kept of the encoder's outputs beside what the joiner takes."""
LATERAL, PRIOR = 1, 2
"""The places of these films among the roles."""
_BOX = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt about study number ``study``, with its lateral and its prior film shown or not."""

    study: int
    prompt: str
    lateral: bool = False
    prior: bool = False

    @property
    def task(self) -> str:
        """The task that the prompt begins with."""
        return self.prompt[1 : self.prompt.index(">")]


class Asker:
    """A network and the films of ``studies``: uint8 or float [n, roles, size, size], of which the frontal is needed."""

    def __init__(
        self,
        network: FirstreadMini,
        tokenizer: Tokenizer,
        films: NDArray[np.generic],
        encoder: VisionEncoder | None = None,
        real: RealReader | None = None,
    ) -> None:
        """Read every frontal film, by ``encoder`` in place of the network's own tower and heads where one is given.

        The other films are read when they are first shown. ``real`` says of real films what the family writes of them.
        """
        self.network, self.tokenizer, self._films, self._encoder = network, tokenizer, films, encoder
        self.frontal, seen = self._read(0)
        self.heat, self.pooled = seen["heat"], seen["pooled"]
        self._others: dict[int, Readout] = {}
        self.readings: list[Reading | None] = [None] * len(films)
        if real is not None:
            scale = np.float32(255 if films.dtype == np.uint8 else 1)
            shown = films[:, 0].astype(np.float32) / scale
            told = {name: getattr(self.frontal, name).numpy() for name in ("presence", "organs", "landmarks")}
            told |= {name: seen[name].numpy() for name in ("pooled", "cells", "labelled")}
            told["thumbnail"] = thumbnail_and_histogram(shown)
            told["measures"] = measure_outlines(seen["outlines"].numpy(), shown)
            self.readings = real.read(told)

    @torch.no_grad()
    def _read(self, role: int) -> tuple[Readout, dict[str, Tensor]]:
        """What is read off the films of a role: for the joiner, and all of ``BESIDE``."""
        parts, others = [], []
        for start in range(0, len(self._films), BATCH):
            films = self._films[start : start + BATCH, role : role + 1]
            scale = np.float32(255 if films.dtype == np.uint8 else 1)
            out, other = self._see(films.astype(np.float32) / scale)
            parts.append(out)
            others.append(other)
        out = Readout(*(torch.cat(values) for values in zip(*parts, strict=True)))
        return out, {name: torch.cat([other[name] for other in others]) for name in BESIDE}

    def _see(self, films: NDArray[np.float32]) -> tuple[Readout, dict[str, Tensor]]:
        if self._encoder is None:
            pixels = torch.from_numpy(films)
            reading = self.network.read(pixels)
            told = {"outlines": self.network.outlines(pixels), "labelled": self.network.labels(pixels)}
            told |= {name: getattr(reading.seen, name) for name in BESIDE if name not in told}
            return reading.out, told
        seen = {
            name: torch.from_numpy(values) for name, values in self._encoder.encode({"pixels": films}).items()
        }
        whole = Readout(*(seen[name] for name in Readout._fields))
        return whole, {name: seen[name] for name in BESIDE}

    def _other(self, role: int) -> Readout:
        if role not in self._others:
            self._others[role] = self._read(role)[0]
        return self._others[role]

    def answer(self, asks: Sequence[Ask]) -> list[str]:
        """The greedy answer to each of ``asks``, in their order."""
        ids = [self.tokenizer.encode(ask.prompt).ids for ask in asks]
        groups: dict[tuple[str, bool, bool], list[int]] = {}
        for index, ask in enumerate(asks):
            groups.setdefault((ask.task, ask.lateral, ask.prior), []).append(index)
        answers = [""] * len(asks)
        for group in groups.values():
            group.sort(key=lambda index: len(ids[index]))
            for start in range(0, len(group), BATCH):
                chosen = group[start : start + BATCH]
                texts = self._write([asks[i] for i in chosen], [ids[i] for i in chosen])
                for index, text in zip(chosen, texts, strict=True):
                    answers[index] = self._placed(asks[index], text)
        return answers

    def _placed(self, ask: Ask, text: str) -> str:
        """The answer as the family gives it: places are those of the heads, certainty that of real films."""
        read = self.frontal
        values = (read.boxes, read.organs, read.landmarks, read.presence)
        places = Places(*(one[ask.study].numpy() for one in values))
        text, reading = write_places(ask.prompt, text, places), self.readings[ask.study]
        if reading is None:
            return text
        graded = (one[ask.study].numpy() for one in (read.severity, read.zone))
        return write_certain(ask.prompt, text, Shown(reading, places, *graded))

    @torch.no_grad()
    def _write(self, asks: Sequence[Ask], ids: Sequence[list[int]]) -> list[str]:
        table = self.network.language.get_input_embeddings()
        words = [table(torch.tensor(row)) for row in ids]
        if asks[0].task == "summarize":
            rows = words
        else:
            joined = self._join(asks)
            films = (
                torch.cat([joined.film, joined.region], dim=1) if asks[0].task == "identify" else joined.film
            )
            rows = [torch.cat([film, row]) for film, row in zip(films, words, strict=True)]
        longest = max(len(row) for row in rows)
        embeddings = torch.zeros(len(rows), longest, rows[0].shape[-1])
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for index, row in enumerate(rows):
            embeddings[index, longest - len(row) :] = row
            mask[index, longest - len(row) :] = 1
        language: Any = self.network.language  # its generate has no types that fit
        written = language.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            max_new_tokens=self.network.config.max_new_tokens,
            do_sample=False,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        )
        return [self.tokenizer.decode(row) for row in written.tolist()]

    def _join(self, asks: Sequence[Ask]) -> Joined:
        """Film and region embeddings for asks of one task that are shown the same films."""
        rows = torch.tensor([ask.study for ask in asks])
        read, first, none = self.frontal.rows(rows), asks[0], torch.zeros(len(asks))
        side, before = torch.zeros_like(read.presence), torch.zeros_like(read.state)
        if first.lateral:
            side = self._other(LATERAL).presence[rows]
        if first.prior:
            before = self._other(PRIOR).state[rows]
        boxes = torch.zeros(len(asks), 4)
        if first.task == "identify":
            found = [_BOX.search(ask.prompt) for ask in asks]
            if not all(found):
                raise ValueError("identify needs a box in its prompt")
            boxes = torch.tensor([[int(edge) / 100 for edge in box.groups()] for box in found if box])
        task = self.network.task_index(first.task, len(asks))
        joined: Joined = self.network.joiner(
            read, task, side, none + first.lateral, before, none + first.prior, boxes
        )
        return joined
