"""The writing lane of ``flows.drain``: how many batches are written at the same time, and how it ends."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from flows import drain, stages
from models.drafter import Drafter
from models.family import Traits
from pipeline.errors import StopRun
from pipeline.report import Language
from tests.answering_family import AnsweringFamily


class Writing:
    """Stands for the stage: a parcel is written when it is let go, or fails."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let: dict[str, asyncio.Event] = {}
        self.stopping: set[str] = set()
        self.cancelled: list[str] = []

    async def write(self, parcel: str) -> Sequence[str]:
        self.begun.append(parcel)
        try:
            await self.let.setdefault(parcel, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(parcel)
            raise
        if parcel in self.stopping:
            raise StopRun("weights", "not what they were")
        return [parcel]

    async def go(self, parcel: str) -> None:
        self.let.setdefault(parcel, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def lane(together: int, writing: Writing, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The lanes, and the writing one as it is to be awaited."""
    monkeypatch.setattr(stages, "write", writing.write)
    lanes: Any = drain._Lanes(batch=1)
    place: Any = SimpleNamespace(drafter=SimpleNamespace(batches_together=together))
    return lanes, drain._write(place, lanes)


async def bring(lanes: Any, *parcels: str | None) -> None:
    for parcel in parcels:
        await lanes.encoded.put(parcel)


def told(lanes: Any) -> list[Any]:
    return [lanes.outcomes.get_nowait() for _ in range(lanes.outcomes.qsize())]


@pytest.mark.parametrize("together", [1, 2])
def test_so_many_batches_are_written_at_the_same_time_and_no_more(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        writing = Writing()
        lanes, written = lane(together, writing, monkeypatch)
        bringing = asyncio.create_task(bring(lanes, "a", "b", "c", None))
        running = asyncio.create_task(written)
        await settle()
        assert writing.begun == ["a", "b"][:together]
        assert lanes.encoded.qsize() == 1, "the rest waits where it can be held back"
        await writing.go(writing.begun[-1])
        assert len(writing.begun) == together + 1
        for parcel in ("b", "a", "c"):
            assert not running.done()
            await writing.go(parcel)
        await running
        await bringing
        outcomes = told(lanes)
        assert sorted(outcomes[:-1]) == [["a"], ["b"], ["c"]]
        assert outcomes[-1] is None, "the end is told once, behind everything that was written"

    asyncio.run(run())


def test_the_end_waits_for_the_slower_of_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        writing = Writing()
        lanes, written = lane(2, writing, monkeypatch)
        running = asyncio.create_task(written)
        await bring(lanes, "a", "b", None)
        await settle()
        await writing.go("b")
        assert told(lanes) == [["b"]]
        await writing.go("a")
        await running
        assert told(lanes) == [["a"], None]

    asyncio.run(run())


def test_a_stop_ends_the_other_batch_too_and_tells_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        writing = Writing()
        writing.stopping.add("b")
        lanes, written = lane(2, writing, monkeypatch)
        running = asyncio.create_task(written)
        await bring(lanes, "a", "b", "c")
        await settle()
        await writing.go("b")
        with pytest.raises(ExceptionGroup) as raised:
            await running
        assert isinstance(drain._first(raised.value), StopRun)
        assert writing.cancelled == ["a"]
        assert writing.begun == ["a", "b"]
        assert told(lanes) == []

    asyncio.run(run())


def test_all_models_of_a_drafter_have_to_join_batches() -> None:
    joining, plain = AnsweringFamily(), AnsweringFamily("plain")
    joining.traits = Traits(batches_together=2)
    alone = Drafter(joining, Language.ENGLISH, "code")
    beside = Drafter(joining, Language.ENGLISH, "code", others={"plain": plain})
    assert (alone.batches_together, beside.batches_together) == (2, 1)
