"""Discovery is as patient as retrieval: an archive that is busy or away is asked again, for a bounded time."""

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flows import discover
from flows.discover import discover_studies
from pipeline.archive.passed_over import PassedOver
from pipeline.errors import RetryLater, StopRun
from pipeline.study import FoundStudy, StudyQuery

BUSY = RetryLater("archive-busy", "the archive answered 503", after_seconds=0.01)
REFUSED = RetryLater("archive-unreachable", "connection refused")
CUT = RetryLater("archive-cut-short", "the answer ended early")


class Archive:
    """Raises each of ``errors`` in turn, then answers; the answer that is cut short has a study first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), 0
        self.passed_over = PassedOver()

    def find(self, _: StudyQuery) -> Iterator[FoundStudy]:
        self.asked += 1
        if self.errors:
            error = self.errors.pop(0)
            if error is CUT:
                yield FoundStudy("1.2.3", None, (), "", 1, "")
            raise error
        yield FoundStudy("1.2.3", None, (), "", 1, "")
        yield FoundStudy("1.2.4", None, (), "", 1, "")


def place(archive: Archive, patience: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(discover, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(discover, "_audit_query", lambda *_: None)
    monkeypatch.setattr(discover, "_record", lambda *_: 0)
    settings = SimpleNamespace(archives={"main": SimpleNamespace(patience=patience)})
    return SimpleNamespace(settings=settings, archive=lambda _: archive)


@pytest.mark.parametrize("errors", [(BUSY, BUSY), (REFUSED,), (CUT, REFUSED), ()], ids=str)
def test_it_is_asked_again_until_it_answers(
    errors: tuple[Exception, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, busy = Archive(*errors), asyncio.Event()
    found = asyncio.run(discover_studies(place(archive, 5.0, monkeypatch), "main", StudyQuery(), busy))
    assert found.studies == 2
    assert archive.asked == len(errors) + 1
    assert busy.is_set() == (BUSY in errors)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(*[REFUSED] * 1000)
    started = time.monotonic()
    with pytest.raises(RetryLater, match="refused"):
        asyncio.run(discover_studies(place(archive, 0.3, monkeypatch), "main", StudyQuery()))
    assert 1 < archive.asked < 20
    assert time.monotonic() - started < 20


def test_what_does_not_get_better_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(StopRun("archive-auth", "401"))
    with pytest.raises(StopRun):
        asyncio.run(discover_studies(place(archive, 5.0, monkeypatch), "main", StudyQuery()))
    assert archive.asked == 1
