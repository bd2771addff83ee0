"""The search that distrusts lists, against archives of every cap."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.coverage import Answers, Coverage, Window
from pipeline.errors import StopRun
from pipeline.study import FoundStudy

DAY = date(2031, 6, 1)
moments = st.tuples(st.integers(0, 6), st.integers(0, 86399), st.sampled_from(["", ".0", ".5", ".999999"]))


class CappedArchive:
    """Studies with a date and a time, listed strictly by range matching, at most ``cap`` of them."""

    def __init__(self, studies: list[tuple[int, int, str]], cap: int, *, says_so: bool) -> None:
        self.rows = [
            (
                DAY + timedelta(days=day),
                f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}{fraction}",
                f"1.{n}",
            )
            for n, (day, second, fraction) in enumerate(studies, 1)
        ]
        self.cap = cap
        self.says_so = says_so
        self.asked = 0

    def ask(self, window: Window) -> Answers:
        self.asked += 1
        assert self.asked < 3000
        listed = [
            row
            for row in self.rows
            if within(f"{row[0]:%Y%m%d}", window.dates) and within(row[1], window.times)
        ]
        found = tuple(FoundStudy(uid, day, (), "", None, "") for day, _, uid in listed[: self.cap])
        return Answers(found, refused=self.says_so and len(listed) > self.cap)


def within(value: str, wanted: str) -> bool:
    if "-" not in wanted:
        return not wanted or value == wanted
    low, _, high = wanted.partition("-")
    return (not low or value >= low) and (not high or value <= high)


@given(
    st.lists(moments, max_size=60, unique_by=lambda moment: moment[:2]),
    st.integers(5, 40),
    st.booleans(),
    st.sampled_from(
        [Window(), Window(DAY), Window(None, DAY + timedelta(days=9)), Window(DAY, DAY + timedelta(days=6))]
    ),
)
def test_every_study_is_found_once(
    studies: list[tuple[int, int, str]], cap: int, says_so: bool, window: Window
) -> None:
    archive = CappedArchive(studies, cap, says_so=says_so)
    found = [study.study_instance_uid for study in Coverage(archive.ask).studies(window)]
    assert sorted(found) == sorted(uid for _, _, uid in archive.rows)


@pytest.mark.parametrize("fraction", ["", ".5", ".999999"])
def test_no_second_falls_between_two_windows(fraction: str) -> None:
    seconds = [*range(43_180, 43_220), *range(21_590, 21_610)]
    archive = CappedArchive([(0, second, fraction) for second in seconds], 5, says_so=False)
    found = list(Coverage(archive.ask).studies(Window(DAY, DAY)))
    assert len(found) == len(seconds)


def test_a_long_list_of_one_day_is_checked_in_few_queries() -> None:
    archive = CappedArchive([(0, 30_000 + 60 * n, "") for n in range(400)], 10_000, says_so=False)
    assert len(list(Coverage(archive.ask).studies(Window(DAY, DAY)))) == 400
    assert archive.asked <= 5


def test_more_than_the_cap_in_one_second_stops_the_run() -> None:
    archive = CappedArchive([(0, 100, "")] * 9 + [(3, 5, "")], 6, says_so=False)
    with pytest.raises(StopRun, match="archive-capped"):
        list(Coverage(archive.ask).studies(Window()))


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("ignored", ["times", "both"])
def test_an_archive_that_ignores_ranges_does_not_cost_endless_queries(ignored: str, says_so: bool) -> None:
    archive = CappedArchive([(0, 600 * n, "") for n in range(9)], 6, says_so=says_so)

    def ask(window: Window) -> Answers:
        return archive.ask(Window(window.since, window.until) if ignored == "times" else Window())

    search = Coverage(ask).studies(Window(DAY, DAY + timedelta(days=3)))
    if says_so:
        with pytest.raises(StopRun, match="archive-capped"):
            list(search)
    else:
        assert len(list(search)) == 6
    assert archive.asked < 40


def test_an_archive_that_refuses_everything_is_given_up_soon() -> None:
    asked = []

    def ask(window: Window) -> Answers:
        asked.append(window)
        return Answers((), refused=True)

    with pytest.raises(StopRun, match="archive-capped"):
        list(Coverage(ask).studies(Window(DAY, DAY + timedelta(days=300))))
    assert len(asked) < 80


def test_an_empty_answer_ends_at_once() -> None:
    archive = CappedArchive([], 5, says_so=False)
    assert not list(Coverage(archive.ask).studies(Window()))
    assert archive.asked == 1


def test_windows_are_written_as_range_matching() -> None:
    assert (Window().dates, Window().times) == ("", "")
    assert Window(DAY, DAY).dates == "20310601"
    assert Window(DAY).dates == "20310601-"
    assert Window(None, DAY).dates == "-20310601"
    assert Window(DAY, DAY, 3661, None).times == "010101-"
