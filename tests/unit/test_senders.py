"""Who may send, and how refusals are counted."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from flows.environment.senders import Refusals, is_allowed, read_senders
from pipeline.archive.dimse.caller import Sender
from pipeline.errors import ConfigurationError, RetryLater


@pytest.mark.parametrize(
    ("senders", "calling", "address", "served"),
    [
        ((), "ANY", "127.0.0.1", True),
        ((), "ANY", "::1", True),
        ((), "ANY", "::ffff:127.0.0.1", True),
        ((), "ANY", "10.0.0.5", False),
        (("CT1",), "CT1", "10.0.0.5", True),
        (("CT1",), "CT2", "10.0.0.5", False),
        (("CT1",), "CT2", "127.0.0.1", False),
        (("10.0.0.0/24",), "ANY", "10.0.0.5", True),
        (("10.0.0.0/24",), "ANY", "10.0.1.5", False),
        (("CT1@10.0.0.5",), "CT1", "10.0.0.5", True),
        (("CT1@10.0.0.5",), "CT1", "10.0.0.6", False),
        (("CT1@10.0.0.5",), "CT2", "10.0.0.5", False),
        (("fe80::/10",), "ANY", "fe80::1%eth0", True),
        (("CT1", "10.0.0.0/24"), "CT9", "10.0.0.7", True),
    ],
)
def test_the_list_decides(senders: tuple[str, ...], calling: str, address: str, served: bool) -> None:
    assert is_allowed(Sender(calling, address), read_senders(senders)) is served


@pytest.mark.parametrize("entry", ["", "  ", "A@", "@10.0.0.1", "CT1@nowhere", "A" * 17])
def test_an_entry_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="senders"):
        read_senders([entry])


def test_refusals_are_counted_and_none_is_lost() -> None:
    refusals, told = Refusals(), list[Mapping[str, Any]]()
    evil = Sender("EVIL", "10.0.0.9")
    for _ in range(1000):
        refusals.add(evil, "calling-ae")
    for number in range(500):
        refusals.add(Sender(f"S{number}", "10.0.0.8"), "calling-ae")

    def away(_: Sequence[Any]) -> None:
        raise RetryLater("database-away", "away")

    with pytest.raises(RetryLater):
        refusals.flush("site", away)
    refusals.flush("site", told.extend)
    assert len(told) <= 102
    counts = {one["agent"][0]["who"]["display"]: one["outcomeDesc"] for one in told}
    assert counts["EVIL"] == "refused 1000 times: calling-ae"
    assert counts["others"] == "refused 401 times: calling-ae"
    refusals.flush("site", told.clear)  # type: ignore[arg-type]
    assert told


def test_a_refusal_says_what_to_add(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.add(Sender("CT1\x1b[2J", "10.0.0.9"), "calling-ae")
    (line,) = caplog.messages
    assert '"CT1[2J@10.0.0.9" to [listen] senders' in line
