"""Texts for training, written in processes of their own: which studies are drawn, and prompts and answers about them.

Writing and tokenising a thousand texts takes longer than learning from them on an accelerator, so several writers work
ahead. Each draws from its own share of the shards, every study once before any again.
"""

import multiprocessing
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.networks.mini import EOS_ID, PAD_ID
from models.simulation.task_texts import StudyFacts, task_example
from models.training.shards import load_facts, shard_files
from models.vocabulary.task_words import LANGUAGES, TASKS

TASK_SHARE = {
    "report": 0.20,
    "findings": 0.02,
    "impression": 0.05,
    "grounded_report": 0.07,
    "detect": 0.09,
    "identify": 0.10,
    "vqa": 0.22,
    "classify": 0.16,
    "landmark": 0.02,
    "summarize": 0.07,
}
REFRESH_EVERY = 25
AHEAD = 3
"""Batches that a writer makes before they are asked for."""
PATIENCE_S = 600.0
_BOX = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")
Written = tuple[NDArray[np.int64] | NDArray[np.float32], ...]


class DrawnExample(NamedTuple):
    """Studies of one batch, as pool, shard and place in it: int64 [n, 3]; and their texts, the fields of ``Texts``."""

    studies: NDArray[np.int64]
    texts: Written


@dataclass(frozen=True, slots=True)
class WritingOrder:
    """What the writers make: ``studies`` per batch, ``real_share`` of them from the second of ``folders`` once it holds
    any, and ``texts`` about them."""

    folders: tuple[Path, Path]
    studies: int
    real_share: float
    texts: int
    seed: int


class Example(NamedTuple):
    """A prompt and answer about study number ``study``, as tokens, the answer with its end.

    ``box`` is the asked region as shares of the film, 0 where none is asked about.
    """

    study: int
    task: str
    prompt: list[int]
    answer: list[int]
    box: tuple[float, ...]


def write_example(
    facts: Sequence[StudyFacts],
    study: int,
    asked: tuple[str, str],
    chooser: random.Random,
    tokenizer: Tokenizer,
) -> Example:
    """An example about ``facts[study]``, ``asked`` a task and language, as ``task_example`` words it and raises."""
    task, language = asked
    prompt, answer = task_example(facts[study], task, language, chooser)
    found = _BOX.search(prompt) if task == "identify" else None
    box = tuple(int(edge) / 100 for edge in found.groups()) if found else (0.0,) * 4
    return Example(study, task, tokenizer.encode(prompt).ids, [*tokenizer.encode(answer).ids, EOS_ID], box)


def number_token(tokenizer: Tokenizer) -> int:
    """The token of 0; those of 1 to 100 follow it. Raises ValueError for another model's tokenizer."""
    token = tokenizer.token_to_id("<0>")
    if token is None:
        raise ValueError("this tokenizer has no numbers")
    return int(token)


class _Pool:
    """The studies of one folder that are this writer's, shards that appear later included."""

    def __init__(self, folder: Path, share: tuple[int, int], chooser: random.Random) -> None:
        self._folder, self._share, self._chooser = folder, share, chooser
        self._facts: dict[int, list[StudyFacts]] = {}
        self._waiting: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return sum(map(len, self._facts.values()))

    def refresh(self) -> None:
        number, of = self._share
        for shard, path in shard_files(self._folder):
            if shard % of == number and shard not in self._facts:
                self._facts[shard] = load_facts(path)
                self._waiting += [(shard, index) for index in range(len(self._facts[shard]))]
        self._chooser.shuffle(self._waiting)

    def draw(self) -> tuple[tuple[int, int], StudyFacts]:
        if not self._waiting:
            self._waiting = [(s, i) for s, facts in self._facts.items() for i in range(len(facts))]
            self._chooser.shuffle(self._waiting)
        shard, index = self._waiting.pop()
        return (shard, index), self._facts[shard][index]


class Writer:
    """Draws studies and writes about them."""

    def __init__(self, order: WritingOrder, tokenizer: Tokenizer, share: tuple[int, int] = (0, 1)) -> None:
        """Writer ``share[0]`` of ``share[1]``."""
        self._order, self._tokenizer = order, tokenizer
        self._chooser = random.Random(order.seed * 1009 + share[0])  # noqa: S311 - order and wording
        self._pools = [_Pool(folder, share, self._chooser) for folder in order.folders]

    def refresh(self) -> bool:
        """Take in shards that have appeared since; whether there is anything to draw."""
        for pool in self._pools:
            pool.refresh()
        return len(self._pools[0]) > 0

    def batch(self) -> DrawnExample:
        """Studies and texts of one batch."""
        real, count = 0, self._order.studies
        if len(self._pools[1]):
            whole, rest = divmod(count * self._order.real_share, 1)
            real = int(whole) + (self._chooser.random() < rest)
        chosen, facts = [], []
        for place in range(count):
            pool = int(place >= count - real)
            (shard, index), known = self._pools[pool].draw()
            chosen.append((pool, shard, index))
            facts.append(known)
        return DrawnExample(np.array(chosen, np.int64), self._write(facts))

    def _write(self, facts: Sequence[StudyFacts]) -> Written:
        rows: list[Example] = []
        names, shares = list(TASK_SHARE), list(TASK_SHARE.values())
        while len(rows) < self._order.texts:
            study = len(rows) % len(facts)
            task, language = self._chooser.choices(names, shares)[0], self._chooser.choice(LANGUAGES)
            try:
                rows.append(write_example(facts, study, (task, language), self._chooser, self._tokenizer))
            except ValueError:  # nothing on this study to ask for
                continue
        rows.sort(key=lambda row: len(row.prompt) + len(row.answer))
        ids = [row.prompt + row.answer for row in rows]
        longest = len(ids[-1])
        return (
            np.array([row.study for row in rows], np.int64),
            np.array([TASKS.index(row.task) for row in rows], np.int64),
            np.array([row.box for row in rows], np.float32),
            np.array([row + [PAD_ID] * (longest - len(row)) for row in ids], np.int64),
            np.array([len(row.prompt) for row in rows], np.int64),
            np.array([len(row) for row in ids], np.int64),
        )


def _work(order: WritingOrder, tokenizer: str, share: tuple[int, int], queue: Any, stop: Any) -> None:
    writer = Writer(order, Tokenizer.from_str(tokenizer), share)
    made = 0
    while not stop.is_set():
        if made % REFRESH_EVERY == 0 and not writer.refresh():
            stop.wait(0.5)
            continue
        queue.put(writer.batch())
        made += 1


class Writers:
    """Writers at work in ``count`` processes; a context manager that ends them."""

    def __init__(self, order: WritingOrder, tokenizer: Tokenizer, count: int) -> None:
        """Start them."""
        context = multiprocessing.get_context("spawn")
        self._queue, self._stop = context.Queue(AHEAD * count), context.Event()
        shares = [(number, count) for number in range(count)]
        text = tokenizer.to_str()
        self._processes = [
            context.Process(target=_work, args=(order, text, share, self._queue, self._stop), daemon=True)
            for share in shares
        ]
        for process in self._processes:
            process.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """End the processes."""
        self._stop.set()
        for process in self._processes:
            process.terminate()
            process.join()

    def next(self) -> DrawnExample:
        """The next batch. Raises TimeoutError when none comes in ten minutes: the folders stayed empty."""
        try:
            drawn: DrawnExample = self._queue.get(timeout=PATIENCE_S)
        except Empty:
            raise TimeoutError("the writers have written nothing: are there shards in the cache?") from None
        return drawn
