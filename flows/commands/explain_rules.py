"""``firstread rules test``: what a study's instances are, which field or rule says so, what becomes of the study."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from flows.commands import table as display
from flows.commands.json_text import json_text
from flows.environment.workplace import Workplace
from flows.fetching import fetch_study, trial_event
from flows.tally import ALL_WELL, SOME_FAILED
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images import prepare_for, read_headers
from pipeline.images.headers import Header, text
from pipeline.images.instance_identity import identify
from pipeline.images.site_rules import SiteRule, ruled
from pipeline.settings import Settings, archive_named
from pipeline.study import FetchedStudy


@dataclass(frozen=True, slots=True)
class Explained:
    """Instances of one series that are the same: how many, what, by which fields, and the rule that held."""

    series: int
    instances: int
    what: str
    by: str
    rule: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A study explained. ``outcome`` is "drafted", or the reason in words; ``code`` is "" or the reason's."""

    instances: tuple[Explained, ...]
    code: str
    outcome: str


def explain_rules(settings: Settings, archive: str, study: str, *, as_json: bool) -> int:
    """Fetch the study, print the table; 0 where it would be drafted, else 1. Opens no model, writes no draft.

    Raises ConfigurationError for an unknown archive and a rule that DICOM does not know, SkipStudy("study-gone"),
    RetryLater where the archive or Postgres is away.
    """
    archive_named(settings, archive)
    with Workplace(settings) as workplace:
        folder = workplace.private_folder("explained")
        try:
            fetched = fetch_study(workplace, archive, study, folder)
            workplace.store.append_audit([trial_event(workplace, archive, fetched, "rules test")])
            explanation = explained(workplace, archive, fetched)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        sys.stdout.write(json_text(asdict(explanation)) + "\n")
    else:
        display.rows_table(
            ("series", "instances", "what", "by", "rule"),
            [
                (str(one.series), str(one.instances), one.what, one.by, one.rule)
                for one in explanation.instances
            ],
            caption=f"The study: {explanation.outcome}",
        )
    return SOME_FAILED if explanation.code else ALL_WELL


def explained(workplace: Workplace, archive: str, fetched: FetchedStudy) -> Explanation:
    """What each instance is by the headers and the site's rules, and what a run would do with the study."""
    rules = workplace.rules(archive)
    rows = Counter(_rows(read_headers(fetched).headers, rules))
    numbers = {uid: number for number, uid in enumerate(dict.fromkeys(uid for uid, *_ in rows), 1)}
    instances = tuple(
        Explained(numbers[uid], count, what, by, rule) for (uid, what, by, rule), count in rows.items()
    )
    try:
        _, image_set = prepare_for(
            fetched, read_headers(fetched, rules=rules), workplace.reader, trust=workplace.trust(archive)
        )
    except (SkipStudy, FailStudy) as error:
        return Explanation(instances, error.code, error.message)
    count = len(image_set.images)
    return Explanation(instances, "", f"drafted from {count} image{'s' if count > 1 else ''}")


def _rows(headers: tuple[Header, ...], rules: tuple[SiteRule, ...]) -> Iterator[tuple[str, str, str, str]]:
    """For each instance: its series, what it is, by which fields, and the rule that holds."""
    for header in headers:
        put, rule = ruled(header, rules)
        identity = identify(put.dataset)
        by = "; ".join(f"{what}: {field}" for what, field in identity.sources)
        held = str(rule) if rule is not None else "none"
        if rule is not None and rule.says and put is header:
            held += " (not applied: the SOP Class says what it is)"
        yield text(header.dataset, "SeriesInstanceUID"), str(identity), by, held
