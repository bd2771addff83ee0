"""A server with eight invented studies over the FHIR interface: on a reader in memory and on Postgres."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest

from pipeline.ledger import ReportOutcome
from pipeline.store.store import Store
from pipeline.web import Access, Reader, create_app, serving
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.memory_reader import MemoryReader

COUNT = 8
ALL = [f"report-{number}" for number in range(COUNT)]
Save = Callable[[Sequence[ReportOutcome]], None]


@dataclass
class Site:
    """A server with eight invented studies, and what it told the audit."""

    url: str
    reader: Reader
    save: Save
    accesses: list[Access] = field(default_factory=list)

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)


@pytest.fixture(params=["memory", "postgres"])
def rest_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        accesses: list[Any] = []
        reader: MemoryReader | Store
        if request.param == "memory":
            reader = MemoryReader()
            save: Save = reader.save_all
        else:
            reader = stack.enter_context(Store(request.getfixturevalue("database_url")))
            save = partial(save_as_flows, reader)
        save([invented_outcome(number) for number in range(COUNT)])
        app = create_app(reader, token="", audit=accesses.extend, clock=lambda: datetime.now(UTC))
        url = stack.enter_context(serving(app))
        yield Site(url.rstrip("/"), reader, save, accesses)
