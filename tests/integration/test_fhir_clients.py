"""Three clients that nobody here wrote behind a real TLS proxy: they page, read and follow links."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhirclient.client import FHIRClient
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.observation import Observation

from pipeline.fhir.published import published
from pipeline.store.store import Store
from pipeline.web import Access, Addresses, create_app, serving
from pipeline.web.reader import DoorEvent
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.servers import free_port
from tests.tls_proxy import TlsProxy, installed, tls_proxy
from tests.unit.fhir_samples import body, built

TOKEN = "a-token-of-this-site"
COUNT = 5
FHIRPY = Path(__file__).parents[1] / "pypi" / "fhirpy_client.py"


@dataclass
class Site:
    """A server behind nginx with one study as the pipeline writes it and five invented ones."""

    proxy: TlsProxy
    report: str
    accesses: list[Access | DoorEvent]

    @property
    def base(self) -> str:
        return f"{self.proxy.url}/fhir"


@pytest.fixture(params=["public_url", "trusted_proxies"])
def site(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    if not installed():
        pytest.skip("nginx or openssl is not installed (sh tests/peers.sh)")
    resources = built()
    report = body(resources, "DiagnosticReport")["id"]
    port = free_port()
    with ExitStack() as stack:
        store = stack.enter_context(Store(database_url))
        save_as_flows(store, [replace(invented_outcome(9), resources=resources, diagnostic_report_id=report)])
        save_as_flows(store, [invented_outcome(number) for number in range(COUNT)])
        addresses = (
            Addresses.of(f"https://localhost:{port}")
            if request.param == "public_url"
            else Addresses.of("", ["127.0.0.1"])
        )
        accesses: list[Access | DoorEvent] = []
        app = create_app(
            store, token=TOKEN, audit=accesses.extend, clock=lambda: datetime.now(UTC), addresses=addresses,
            published=published(),
        )  # fmt: skip
        upstream = stack.enter_context(serving(app))
        proxy = stack.enter_context(tls_proxy(tmp_path, port, upstream))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.certificate))
        yield Site(proxy, report, accesses)


def test_fhirclient_pages_and_reads(site: Site) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": site.base})
    client.server.session.headers["Authorization"] = f"Bearer {TOKEN}"
    assert client.prepare()
    found = [*DiagnosticReport.where({"_count": "2"}).perform_resources_iter(client.server)]
    assert len(found) == len({one.id for one in found}) == COUNT + 1
    report = DiagnosticReport.read(site.report, client.server)
    results = [Observation.read_from(one.reference, client.server) for one in report.result]
    assert {one.status for one in results} == {"preliminary"}
    searched = Observation.where({"patient": report.subject.reference, "category": "imaging", "_count": "2"})
    assert {one.id for one in searched.perform_resources_iter(client.server)} == {one.id for one in results}
    newest = next(DiagnosticReport.where({"_sort": "-date"}).perform_resources_iter(client.server))
    assert newest.id == site.report


def test_fhirpy_pages_counts_and_includes(site: Site, pypi_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, FHIRPY, site.base, TOKEN, site.proxy.certificate, site.report],
        env={"PYTHONPATH": str(pypi_folder)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    told: dict[str, Any] = json.loads(done.stdout)
    results = body(built(), "DiagnosticReport")["result"]
    assert len(told["reports"]) == len(set(told["reports"])) == COUNT + 1
    assert told["counted"] == len(told["partial"])
    assert told["newest"] == site.report
    assert told["included"] == ["DiagnosticReport"] + ["Observation"] * len(results)
    assert told["subject"] == "Patient"
    assert len(told["observations"]) == len(set(told["observations"])) == len(results)


def test_fhir_kit_client_pages_searches_and_histories(site: Site, npm_folder: Path) -> None:
    patient = "patient-0"
    done = subprocess.run(
        ["node", "client.mjs", site.base, TOKEN, patient], cwd=npm_folder, capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_EXTRA_CA_CERTS": str(site.proxy.certificate)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    told: dict[str, Any] = json.loads(done.stdout)
    reports = {one.split("/")[1] for one in told["all"]}
    assert len(told["all"]) == len(reports) == COUNT + 1
    assert sorted(told["posted"]) == ["DiagnosticReport/report-0/1", "DiagnosticReport/report-3/1"]
    assert [one.split("/")[0] for one in told["read"]] == ["DiagnosticReport", "DiagnosticReport", "Patient"]
    assert told["statement"] == "CapabilityStatement"
    assert {one.split("/")[1] for one in told["ofType"]} == reports
    assert told["ofOne"] == [told["all"][0]]
    assert len(told["history"]) == len(set(told["history"]))
    assert {one.split("/")[0] for one in told["history"]} >= {
        "Patient",
        "Observation",
        "Provenance",
        "Device",
    }
    assert all(link.startswith(f"{site.base}/") for link in told["links"])
    log = site.proxy.access_log.read_text()
    assert "POST /fhir/DiagnosticReport/_search HTTP/1.1" in log
    assert f"patient={patient}" not in log, "nor do the pages that follow a POST name anybody to a proxy"
