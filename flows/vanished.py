"""Reported studies that their archive lists no more: deleted there, merged away, moved under another UID.

Nothing is withdrawn by a list alone, which may be cut: each is asked for by its UID, and what is not there is looked at
like any other study, whose fetch then says that it is gone. Where much is gone at once it is rather the archive that
is not what it was (reinstalled, another tenant, an empty disk): then nothing is touched, and it is said.
"""

import logging
from collections.abc import Iterator, Set
from datetime import date

from flows.environment.workplace import Workplace
from flows.standing import reopen
from pipeline.ledger import LedgerState
from pipeline.settings import archive_named
from pipeline.store.values import SettledFilter
from pipeline.study import StudyQuery

log = logging.getLogger(__name__)

NOT_LISTED = "reported-not-listed"
FEW = 20
"""So many studies may be gone of any window; of more at most a tenth."""


def look_for_vanished(
    workplace: Workplace, archive: str, since: date | None, until: date | None, seen: Set[int]
) -> dict[str, int]:
    """Take up again each reported study of these dates that the archive does not know any more.

    ``seen`` holds the hashes of the UIDs that its list of the same dates has. Returns what could not be decided, by
    reason. Raises as the archive does.
    """
    total, missing = 0, []
    for ledger_id, uid in _standing(workplace, archive, since, until):
        total += 1
        if hash(uid) not in seen:
            missing.append((ledger_id, uid))
    if len(missing) > max(FEW, total // 10):
        log.error(
            "archive %s lists %d of %d reported studies of these days no more: that is not believed, and none of their "
            "drafts is withdrawn; check the archive, then `firstread retire` what is really gone",
            archive, len(missing), total,
        )  # fmt: skip
        return {NOT_LISTED: len(missing)}
    source = workplace.archive(archive)
    gone = [
        ledger_id
        for ledger_id, uid in missing
        if not any(True for _ in source.find(StudyQuery(study_instance_uids=(uid,))))
    ]
    if gone:
        wanted = SettledFilter(
            (LedgerState.REPORTED,), archive, workplace.recipe_of(archive), ledger_ids=tuple(gone)
        )
        reopened = reopen(
            workplace, workplace.store.standing.settled(wanted), "", "the archive lists the study no more"
        )
        log.warning("archive %s lists %d reported studies no more", archive, len(reopened))
    return {}


def _standing(
    workplace: Workplace, archive: str, since: date | None, until: date | None
) -> Iterator[tuple[int, str]]:
    after = 0
    recipe = workplace.recipe_of(archive)
    asked = archive_named(workplace.settings, archive).modalities  # others are in no list that is asked for
    while page := workplace.store.standing.within(archive, recipe, since, until, asked, after=after):
        yield from page
        after = page[-1][0]
