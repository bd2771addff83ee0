"""A server over Postgres with one study as the pipeline writes it, and invented ones of other dates."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from pipeline.fhir.published import published
from pipeline.ledger import ReportOutcome, Resource
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.unit.fhir_samples import body, built


@contextmanager
def fhir_client(database_url: str, outcomes: Sequence[ReportOutcome]) -> Iterator[httpx.Client]:
    """A client of a server over Postgres that holds ``outcomes``, stored one after another."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(database_url))
        for one in outcomes:
            save_as_flows(store, [one])
        app = create_app(
            store, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC), published=published()
        )
        url = stack.enter_context(serving(app))
        yield stack.enter_context(httpx.Client(base_url=f"{url}fhir", timeout=30))


def written_study() -> ReportOutcome:
    """A study with its resources as the pipeline writes them."""
    resources = built()
    report = body(resources, "DiagnosticReport")["id"]
    return replace(invented_outcome(9), resources=resources, diagnostic_report_id=report)


def studies_of_several_dates() -> list[ReportOutcome]:
    """One study as the pipeline writes it, five invented ones, of which the last written is the oldest film."""
    dated = ("2026-02-03", "2026-02-03T08:00:00Z", "2026-02-03T09:00:00+02:00", None, "2019-05-06")
    return [written_study(), *(_dated(number, effective) for number, effective in enumerate(dated, 1))]


def _dated(number: int, effective: str | None) -> ReportOutcome:
    """An invented report with another effective time, or none."""
    outcome = invented_outcome(number)
    changed = []
    for one in outcome.resources:
        content = dict(one.body)
        if one.resource_type == "DiagnosticReport":
            content.pop("effectiveDateTime")
            content |= {"effectiveDateTime": effective} if effective else {}
        changed.append(Resource(one.resource_type, one.resource_id, content))
    return replace(outcome, resources=tuple(changed))
