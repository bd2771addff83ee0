"""Whole volumes wait for room, and give it back when they are forgotten."""

import threading

import pytest

from pipeline.errors import RetryLater
from pipeline.images.volumes.room import Room


class Holder:
    pass


def test_a_volume_waits_until_another_is_forgotten() -> None:
    room = Room(10)
    first: Holder | None = Holder()
    room.take(8)
    room.give_with(first, 8)
    entered = threading.Event()

    def second() -> None:
        room.take(4, longest=30)
        entered.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not entered.wait(0.2)
    first = None
    assert entered.wait(20)
    waiting.join()
    with pytest.raises(RetryLater) as refused:
        room.take(8, longest=0.05)
    assert refused.value.code == "no-room"


def test_one_larger_than_the_room_is_let_in_alone() -> None:
    room = Room(10)
    room.take(100, longest=0)
    room.give(100)
    room.take(10, longest=0)
