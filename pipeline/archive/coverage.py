"""Finding every study although the archive cuts its answers short.

Archives cap result lists, mostly without saying so (Orthanc lists one more than its limit, over all pages), and some
ignore paging. So every list but a very short one is checked by asking for the two halves of its window: when they
are both shorter and bring nothing new the list was whole, otherwise they are halved in turn. That doubles the cost
of a search, which is small beside retrieval. Studies are yielded once, by UID.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from pipeline.errors import FailStudy, RetryLater, StopRun
from pipeline.study import FoundStudy

log = logging.getLogger(__name__)

_LEAST_CAP = 5
"""No archive is set to list fewer; a list this long is checked."""

_NARROWER_REFUSED = ("archive-refused", "archive-error")
"""What an archive answers that cannot search by StudyTime or by a range: 400 (PS3.18 8.3.4), 0xA900 or 0xCxxx (PS3.4
C.4.1)."""

_LAST_SECOND = 24 * 60 * 60 - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of StudyDate, both inclusive; on a single day also of StudyTime, in seconds after midnight.

    None leaves a bound open.
    """

    since: date | None = None
    until: date | None = None
    first_second: int | None = None
    last_second: int | None = None

    @property
    def dates(self) -> str:
        """The range matching value of StudyDate (PS3.4 C.2.2.2.5), without spaces; "" for every date."""
        if self.since is None and self.until is None:
            return ""
        if self.since == self.until:
            return f"{self.since:%Y%m%d}"
        return f"{_day(self.since)}-{_day(self.until)}"

    @property
    def times(self) -> str:
        """The range matching value of StudyTime; "" for every time."""
        if self.first_second is None and self.last_second is None:
            return ""
        return f"{_time(self.first_second)}-{_time(self.last_second)}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the archive listed for one window.

    ``doubtful`` says that it pages or warns as if it left studies out, ``refused`` that it said so itself.
    """

    studies: tuple[FoundStudy, ...]
    doubtful: bool = False
    refused: bool = False


class Coverage:
    """One search; ``ask`` sends a window to the archive."""

    def __init__(self, ask: Callable[[Window], Answers]) -> None:
        self._ask = ask
        self._seen: set[str] = set()
        self._most = 0
        self._capped = False
        self._unchecked = 0

    def studies(self, window: Window) -> Iterator[FoundStudy]:
        """Every study of the window, each once.

        Raises StopRun("archive-capped") when the archive proves to cut lists and the window cannot be made
        smaller.
        """
        answers = self._ask(window)
        yield from self._fresh(answers)
        if answers.refused or len(answers.studies) >= (1 if answers.doubtful else _LEAST_CAP):
            yield from self._halves(window, answers)
        self._conclude()

    def _halves(self, window: Window, whole: Answers) -> Iterator[FoundStudy]:
        self._capped = self._capped or whole.refused
        halves = _split(window, [study.study_date for study in whole.studies if study.study_date])
        known = {study.study_instance_uid for study in whole.studies}
        try:
            listed = [self._ask(half) for half in halves or ()]
        except (FailStudy, RetryLater) as error:
            if whole.refused or error.code not in _NARROWER_REFUSED:
                raise
            log.warning("the archive refuses a narrower search (%s): its list cannot be checked", error.code)
            halves, listed = None, []
        uids = [{study.study_instance_uid for study in answers.studies} for answers in listed]
        if halves is None or all(some == known != set() for some in uids):  # the range matching is ignored
            self._unchecked = max(self._unchecked, len(known))
            if whole.refused:
                raise self._proven_cap()
            return
        self._capped = self._capped or any(not some <= known for some in uids)
        for half, answers in zip(halves, listed, strict=True):
            yield from self._fresh(answers)
            if answers.refused or (answers.studies and len(answers.studies) >= self._most):
                yield from self._halves(half, answers)

    def _conclude(self) -> None:
        """Judge the lists that could not be split, now that the longest list the archive gives is known."""
        if not self._unchecked or self._unchecked < self._most:
            return
        if self._capped:
            raise self._proven_cap()
        log.warning("a list of %d studies may have been cut; dates and times do not tell", self._unchecked)

    def _proven_cap(self) -> StopRun:
        return StopRun(
            "archive-capped",
            f"the archive lists at most {self._most} studies and has more within one second of study time: "
            "raise its limit of query results, or ask for shorter periods",
        )

    def _fresh(self, answers: Answers) -> Iterator[FoundStudy]:
        self._most = max(self._most, len(answers.studies))
        for study in answers.studies:
            if study.study_instance_uid not in self._seen:
                self._seen.add(study.study_instance_uid)
                yield study


def _split(window: Window, dates: list[date]) -> tuple[Window, Window] | None:
    """Two windows that cover ``window``; times overlap by one second, since StudyTime has fractions."""
    if window.since is not None and window.since == window.until:
        return _split_day(window)
    ordered = sorted(day for day in dates if _within(day, window))
    if ordered:
        middle = ordered[(len(ordered) - 1) // 2]
    elif window.since is not None and window.until is not None:
        middle = window.since + (window.until - window.since) // 2
    else:
        return None
    if window.until is not None:
        middle = min(middle, window.until - timedelta(days=1))
    return replace(window, until=middle), replace(window, since=middle + timedelta(days=1))


def _split_day(window: Window) -> tuple[Window, Window] | None:
    first = window.first_second or 0
    last = _LAST_SECOND if window.last_second is None else window.last_second
    if last - first < 2:
        return None
    middle = (first + last) // 2
    return replace(window, last_second=middle), replace(window, first_second=middle)


def _within(day: date, window: Window) -> bool:
    return (window.since is None or window.since <= day) and (window.until is None or day <= window.until)


def _day(day: date | None) -> str:
    return "" if day is None else f"{day:%Y%m%d}"


def _time(second: int | None) -> str:
    return "" if second is None else f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
