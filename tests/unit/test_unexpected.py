"""Only our own errors leave: no word of another one is found in what does, whatever it hangs on."""

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from pipeline.errors import FailStudy, FirstreadError, RetryLater, StopRun
from pipeline.unexpected import only_ours, place_of

NAME = "Novák^Jiří"


def encode() -> bytes:
    return NAME.encode("latin-1")


def parse() -> object:
    return json.loads(f"{{{NAME}")


def noted() -> None:
    error = ValueError("plain")
    error.add_note(f"of {NAME}")
    raise error


def grouped() -> None:
    inner: list[Exception] = []
    try:
        raise KeyError(NAME)
    except KeyError as error:
        inner.append(error)
    raise ExceptionGroup("lanes", [RetryLater("away", "x"), ExceptionGroup(NAME, inner)])


async def waited(raises: Callable[[], object]) -> object:
    await asyncio.sleep(0)
    return raises()


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("raises", [encode, parse, noted, grouped])
def test_nothing_of_a_foreign_error_leaves(
    raises: Callable[[], object], later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        if later:
            asyncio.run(only_ours("a stage")(waited)(raises))
        else:
            only_ours("a stage")(raises)()

    with caplog.at_level(logging.DEBUG), pytest.raises(StopRun) as caught:
        leave()
    error = caught.value
    assert error.code == "unexpected"
    assert error.__cause__ is None
    assert error.__context__ is None
    said = "".join(traceback.format_exception(error)) + caplog.text + repr(pickle.loads(pickle.dumps(error)))
    assert not {NAME, "Nov", "Jiř", "Ji\\u0159"} & {
        part for part in (NAME, "Nov", "Jiř", "Ji\\u0159") if part in said
    }
    assert "tests/unit/test_unexpected.py:" in error.message


@pytest.mark.parametrize("ours", [FailStudy("a", "b"), RetryLater("a", "b"), StopRun("a", "b")])
def test_our_errors_pass_without_what_they_hang_on(ours: FirstreadError) -> None:
    def caused() -> None:
        try:
            encode()
        except UnicodeEncodeError:
            raise ours  # noqa: B904 - on purpose: a context that must not leave

    for function in (caused, lambda: failing(ExceptionGroup("lanes", [ours]))):
        with pytest.raises(FirstreadError) as caught:
            only_ours("a stage")(function)()
        assert caught.value is ours
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "ending", [KeyboardInterrupt(), SystemExit(), BaseExceptionGroup("x", [KeyboardInterrupt()])]
)
def test_the_end_of_the_process_passes(ending: BaseException) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        only_ours("a stage")(failing)(ending)


def test_a_place_is_ours_and_the_librarys() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse()
    assert place_of(caught.value).startswith("JSONDecodeError in json/decoder.py:")
    assert "tests/unit/test_unexpected.py:" in place_of(caught.value)
