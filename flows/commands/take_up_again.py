"""Commands that go back to a study at rest: ``retry``, ``retire`` and ``reconcile``.

Each change is written to the audit with who asked. Nothing is drafted here: a run, or the worker, does that.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from flows.commands import table as display
from flows.environment.person import login_name
from flows.environment.workplace import Workplace
from flows.received import reconcile
from flows.standing import mended, reopen, retire
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.ledger import SETTLED, LedgerState
from pipeline.mending import mended_by
from pipeline.settings import Settings, archive_named
from pipeline.store.values import SettledFilter, SettledRow

SHOWN = 20


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """What ``retry`` is asked: which rows, whether only those that may be mended, whether only to tell."""

    wanted: SettledFilter
    mended: bool = False
    dry_run: bool = False
    asked_by: str = ""


def states_named(names: Sequence[str]) -> tuple[LedgerState, ...]:
    """The states of a command's ``--state``; failed where none is named. Raises ConfigurationError for another word."""
    known = {state.value: state for state in SETTLED}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError("state", f"--state must be one of {', '.join(known)}, not {unknown[0]!r}")
    return tuple(known[name] for name in names) or (LedgerState.FAILED,)


def run_retry(settings: Settings, options: RetryOptions, *, as_json: bool) -> int:
    """Make settled studies work again, or tell which would be; returns the exit code: 1 where none is found.

    Raises ConfigurationError for an unknown archive.
    """
    if options.wanted.archive:
        archive_named(settings, options.wanted.archive)
    with Workplace(settings) as workplace:
        rows = [
            row
            for row in workplace.store.standing.settled(options.wanted)
            if row.archive in settings.archives
        ]
        if options.mended:
            may = {row.ledger_id for archive in settings.archives for row in mended(workplace, archive)}
            rows = [row for row in rows if row.ledger_id in may]
        done = len(rows)
        if not options.dry_run:
            asked_by = options.asked_by or login_name()
            done = len(reopen(workplace, rows, asked_by, "firstread retry"))
    _tell(rows, done, options.dry_run, as_json)
    return 0 if rows else 1


def _tell(rows: Sequence[SettledRow], done: int, dry_run: bool, as_json: bool) -> None:
    codes = Counter((row.state.value, row.code) for row in rows)
    if as_json:
        told = [{"state": state, "code": code, "studies": n} for (state, code), n in sorted(codes.items())]
        ids = [row.ledger_id for row in rows]
        answer = {"dry_run": dry_run, "reopened": 0 if dry_run else done, "by_code": told, "ledger_ids": ids}
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    display.rows_table(
        ("state", "code", "studies", "mended by"),
        [(state, code, str(n), mended_by(code).value) for (state, code), n in sorted(codes.items())],
    )
    named = ", ".join(str(row.ledger_id) for row in rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
    if not rows:
        sys.stderr.write("no study at rest is like this\n")
    elif dry_run:
        sys.stderr.write(
            f"{len(rows)} studies would be reopened (ledger rows {named}); nothing was changed\n"
        )
    else:
        sys.stderr.write(f"{done} studies reopened (ledger rows {named}); the next run drafts them\n")


def run_retire(
    settings: Settings, archive: str, studies: Sequence[str], reason: str, asked_by: str, *, as_json: bool
) -> int:
    """Withdraw wrong drafts; returns the exit code: 1 where one has none that stands, or a person has signed it.

    Raises ConfigurationError without a reason, or for an unknown archive.
    """
    if not reason.strip():
        raise ConfigurationError("retire", "--reason must say why; it is kept in the audit")
    archive_named(settings, archive)
    retired = 0
    refused: list[str] = []
    with Workplace(settings) as workplace:
        wanted = SettledFilter(SETTLED, archive, study_instance_uids=tuple(studies), standing=True)
        standing = {row.study_instance_uid: row for row in workplace.store.standing.settled(wanted)}
        for study in studies:
            row = standing.get(study)
            try:
                if row is not None and retire(workplace, row, asked_by or login_name(), reason):
                    retired += 1
                    continue
                refused.append("no draft of it stands")
            except FailStudy as error:
                refused.append(error.message)
    if as_json:
        sys.stdout.write(json.dumps({"retired": retired, "refused": refused}) + "\n")
    else:
        sys.stderr.write(f"{retired} drafts retired\n" + "".join(f"not retired: {one}\n" for one in refused))
    return 1 if refused else 0


def run_reconcile(settings: Settings, *, as_json: bool) -> None:
    """Bring inbox and ledger together, as every run does when it starts."""
    with Workplace(settings) as workplace:
        done = reconcile(workplace)
    if as_json:
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
    else:
        sys.stderr.write(
            f"{done.removed} inbox files removed, {done.found} that were taken for lost found, "
            f"{done.handed_over} received studies handed over\n"
        )
