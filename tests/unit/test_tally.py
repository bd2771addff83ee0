"""The JSON summary and the exit codes (docs/design.md#exit-codes)."""

import json

from flows.environment.early_end import NOTHING_DONE, STOPPED
from flows.tally import STOPPED as STOPPED_TALLY
from flows.tally import Discovered, Tally
from pipeline.ledger import LedgerState


def test_the_summary_has_the_fixed_keys_in_order() -> None:
    tally = Tally(discovered=4).plus([LedgerState.REPORTED, LedgerState.SKIPPED, LedgerState.FAILED, None])
    assert list(json.loads(tally.as_json())) == [
        "discovered",
        "reported",
        "skipped",
        "failed",
        "unchanged",
        "still_failed",
        "reinstated",
        "seconds",
    ]
    assert json.loads(tally.as_json())["unchanged"] == 1


def test_what_needed_nothing_is_unchanged() -> None:
    tally = Tally().plus([LedgerState.REPORTED, None, LedgerState.FAILED]).of(Discovered(10), 1.5)
    assert (tally.discovered, tally.reported, tally.failed, tally.unchanged) == (10, 1, 1, 8)


def test_a_backlog_larger_than_what_was_found_leaves_no_negative_count() -> None:
    assert Tally().plus([LedgerState.REPORTED] * 3).of(Discovered(1), 0.0).unchanged == 0


def test_a_study_that_failed_before_is_never_called_unchanged() -> None:
    tally = Tally().plus([LedgerState.REPORTED]).of(Discovered(8, failed=5), 1.0)
    assert (tally.reported, tally.failed, tally.still_failed, tally.unchanged) == (1, 0, 5, 2)
    assert tally.exit_code == 1
    assert json.loads(tally.as_json())["still_failed"] == 5


def test_one_failed_study_makes_exit_code_one() -> None:
    assert Tally(reported=5).exit_code == 0
    assert Tally(reported=5, failed=1).exit_code == 1
    assert Tally(skipped=2, unchanged=3).exit_code == 0


def test_tallies_add_up() -> None:
    assert Tally(1, 1, 0, 0, 0, 1.0) + Tally(2, 0, 1, 1, 0, 0.5) == Tally(3, 1, 1, 1, 0, 1.5)


def test_a_command_that_is_stopped_while_it_starts_tells_an_empty_tally() -> None:
    told = json.loads(f"{{{NOTHING_DONE}}}")
    assert told == json.loads(Tally().as_json())
    assert STOPPED == STOPPED_TALLY


def test_the_sentence_counts_what_is_not_nothing_and_tells_old_failures_from_new() -> None:
    assert Tally().sentence() == "nothing to do"
    assert Tally(reported=12, failed=1, still_failed=5).sentence() == "12 reported, 1 failed, 5 failed before"
