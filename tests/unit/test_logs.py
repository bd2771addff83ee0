"""What reaches a log handler holds no UID."""

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import logs

UIDS = st.lists(st.integers(0, 10**12), min_size=6, max_size=10).map(
    lambda parts: "1." + ".".join(map(str, parts))
)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@given(UIDS)
def test_every_uid_is_masked(uid: str) -> None:
    assert uid not in logs.mask(f"study {uid}: gone, ({uid}) [{uid}]\n{uid}")


def test_addresses_versions_and_numbers_stay() -> None:
    text = "127.0.0.1:8042 torch 2.13.0 took 1.25 s for 3.1.4.1"
    assert logs.mask(text) == text


def test_exceptions_and_arguments_are_masked(restored_logging: None) -> None:
    stream = io.StringIO()
    logs.configure(verbose=True, stream=stream)
    try:
        raise ValueError("no 1.2.840.10008.5.1.4.1.1.2 here")
    except ValueError:
        logging.getLogger("pipeline").exception("study %s", "2.25.1.2.3.4.5.6")
    written = stream.getvalue()
    assert "[uid]" in written
    assert "1.2.840" not in written
    assert "2.25.1" not in written
