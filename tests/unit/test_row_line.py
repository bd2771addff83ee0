"""Who writes which rows when: shares, handing over, errors and closing, each step of a worker let through by hand."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from models.runners.language import OnnxLanguageModel
from tests.small_llama import NO_TOKEN, onnx_twin, prompts_of, small_llama

SECONDS = 30
EVER = 100_000


class Gate:
    """A session whose runs wait until their worker is let through; those of ``failing`` workers raise."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.permits: dict[int, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
        self.failing: set[int] = set()
        self.arrived: dict[int, int] = defaultdict(int)

    def io_binding(self) -> Any:
        return self.session.io_binding()

    def run_with_iobinding(self, binding: Any) -> None:
        worker = int(threading.current_thread().name.removeprefix("language_"))
        self.arrived[worker] += 1
        assert self.permits[worker].acquire(timeout=SECONDS)
        if worker in self.failing:
            raise RuntimeError("the session failed")
        self.session.run_with_iobinding(binding)

    def wait(self, worker: int, runs: int) -> None:
        """Return when ``worker`` stands before its run of that number."""
        eventually(lambda: self.arrived[worker] == runs)

    def let(self, worker: int, runs: int = EVER) -> None:
        self.permits[worker].release(runs)


@contextmanager
def gated(threads: int, batch: int = 16) -> Iterator[tuple[OnnxLanguageModel, Gate, ThreadPoolExecutor]]:
    """A model without an end token behind a gate, which is opened at the end, and threads to call it from."""
    language = onnx_twin(small_llama(), threads, batch, end=NO_TOKEN)
    gate = Gate(language._session)
    language._session = gate
    try:
        with language, ThreadPoolExecutor(8) as callers:
            try:
                yield language, gate, callers
            finally:
                for worker in range(threads):
                    gate.let(worker)
    finally:
        assert not language._line._waiting
        assert not language._line._batches


def eventually(told: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not told():
        assert time.monotonic() < until
        time.sleep(0.001)


def waiting(language: OnnxLanguageModel, rows: int) -> None:
    """Return when so many rows stand on the line."""
    eventually(lambda: len(language._line._waiting) == rows)


def open_rows(language: OnnxLanguageModel) -> list[int]:
    return [len(batch.rows) for batch in language._line._batches]


def test_idle_workers_share_a_call_equally() -> None:
    with gated(threads=2) as (language, gate, callers):
        writing = callers.submit(language.write, prompts_of([5] * 16), 3)
        eventually(lambda: gate.arrived[0] + gate.arrived[1] == 2)
        assert open_rows(language) == [8, 8]
        gate.let(0)
        gate.let(1)
        assert len(writing.result(SECONDS)) == 16


def test_rows_of_a_later_call_join_those_that_are_open() -> None:
    with gated(threads=1, batch=3) as (language, gate, callers):
        first = callers.submit(language.write, prompts_of([5, 5]), 9)
        gate.wait(0, 1)
        second = callers.submit(language.write, prompts_of([4, 6, 6], seed=1), 2)
        waiting(language, 3)
        gate.let(0, 1)
        gate.wait(0, 2)
        assert open_rows(language) == [2], "too little room to join for so many that wait"
        gate.let(0, 7)
        gate.wait(0, 9)
        assert not first.done()
        gate.let(0)
        alone = [language.write([prompt], 2)[0] for prompt in prompts_of([4, 6, 6], seed=1)]
        assert second.result(SECONDS) == alone
        assert [len(text.ids) for text in first.result(SECONDS)] == [9, 9]


def test_a_call_returns_while_rows_of_others_are_open() -> None:
    with gated(threads=1) as (language, gate, callers):
        first = callers.submit(language.write, prompts_of([5, 5]), 9)
        gate.wait(0, 1)
        second = callers.submit(language.write, prompts_of([4], seed=1), 2)
        waiting(language, 1)
        gate.let(0, 3)  # the first prompts, the second prompt, a step of all three
        assert len(second.result(SECONDS)) == 1
        assert not first.done()
        assert open_rows(language) == [2]


def test_a_worker_without_rows_gets_half_of_another_s() -> None:
    with gated(threads=2) as (language, gate, callers):
        first = callers.submit(language.write, prompts_of([5]), 40)
        gate.wait(0, 1)
        short = callers.submit(language.write, prompts_of([6]), 1)
        gate.wait(1, 1)
        second = callers.submit(language.write, prompts_of([7]), 40)
        waiting(language, 1)
        gate.let(0, 2)
        gate.wait(0, 3)
        assert open_rows(language) == [2, 1]
        gate.let(1, 1)
        short.result(SECONDS)
        eventually(lambda: len(open_rows(language)) == 1)
        gate.let(0, 1)
        eventually(lambda: gate.arrived[0] == 4 and gate.arrived[1] == 2)
        assert open_rows(language) == [1, 1]
        gate.let(0)
        gate.let(1)
        together = [first.result(SECONDS)[0], second.result(SECONDS)[0]]
        assert together == [language.write(prompts_of([length]), 40)[0] for length in (5, 7)]


def test_an_error_reaches_the_calls_in_its_batch_and_no_other() -> None:
    with gated(threads=1, batch=2) as (language, gate, callers):
        first = callers.submit(language.write, prompts_of([5]), 9)
        gate.wait(0, 1)
        second = callers.submit(language.write, prompts_of([6]), 9)
        waiting(language, 1)
        gate.let(0, 2)
        gate.wait(0, 3)
        third = callers.submit(language.write, prompts_of([7, 7]), 9)
        waiting(language, 2)
        assert open_rows(language) == [2]
        gate.failing.add(0)
        gate.let(0, 1)
        for failed in (first, second):
            with pytest.raises(RuntimeError, match="the session failed"):
                failed.result(SECONDS)
        gate.failing.clear()
        gate.let(0)
        texts = third.result(SECONDS)
        assert texts == language.write(prompts_of([7, 7]), 9), "the model is as usable as before"


def test_rows_that_wait_for_a_call_that_failed_are_not_written() -> None:
    with gated(threads=1, batch=2) as (language, gate, callers):
        failing = callers.submit(language.write, prompts_of([5] * 6), 9)
        gate.wait(0, 1)
        gate.failing.add(0)
        gate.let(0, 1)
        with pytest.raises(RuntimeError, match="the session failed"):
            failing.result(SECONDS)
        gate.failing.clear()
        gate.let(0)
        language.write(prompts_of([6]), 1)
        assert gate.arrived[0] <= 1 + 9 + 1, "rows that were on their way by then, and the last call"


def test_closing_waits_for_what_is_written_and_takes_no_more() -> None:
    with gated(threads=1, batch=1) as (language, gate, callers):
        writing = callers.submit(language.write, prompts_of([5, 6]), 4)
        gate.wait(0, 1)
        closing = callers.submit(language.__exit__, None, None, None)
        eventually(lambda: language._line._closed)
        with pytest.raises(RuntimeError, match="closed"):
            language.write(prompts_of([5]), 4)
        assert not closing.done()
        gate.let(0)
        assert [len(text.ids) for text in writing.result(SECONDS)] == [4, 4]
        closing.result(SECONDS)
