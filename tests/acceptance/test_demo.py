"""The demo, as a stranger runs it: three times on one data folder, then every sink is searched for patient data."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from pipeline.store.embedded import EmbeddedPostgres
from tests import readme
from tests.sites import environment, firstread, rows, summary

REPORTED, SKIPPED, FAILED = 12, 3, 0
STUDIES = REPORTED + SKIPPED


@dataclass(frozen=True)
class DemoRun:
    data_dir: Path
    first: "subprocess.CompletedProcess[str]"
    second: "subprocess.CompletedProcess[str]"
    made: "subprocess.CompletedProcess[str]"
    """By ``make``, as the README shows it."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> DemoRun:
    """The first run is recorded in Prefect, as at a site that has it; the others are not."""
    folder = tmp_path_factory.mktemp("demo")
    data_dir = folder / "data"
    first = firstread(
        "demo", "--once", "--json", "--verbose",
        cwd=folder, prefect_api=prefect_url, FIRSTREAD_DATA_DIR=str(data_dir),
    )  # fmt: skip
    second = firstread("demo", "--once", "--json", "--verbose", cwd=folder, FIRSTREAD_DATA_DIR=str(data_dir))
    made = subprocess.run(
        ["make", "demo", "ONCE=1"],
        cwd=readme.ROOT, env=environment(FIRSTREAD_DATA_DIR=str(data_dir)),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return DemoRun(data_dir, first, second, made)


@pytest.fixture(scope="module")
def postgres(demo: DemoRun) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.ensure(demo.data_dir) as server:
        yield server


def test_the_first_run_reports_the_sample(demo: DemoRun) -> None:
    assert demo.first.returncode == 0, demo.first.stderr
    counted = summary(demo.first)
    assert (counted["discovered"], counted["reported"]) == (STUDIES, REPORTED)
    assert (counted["skipped"], counted["failed"], counted["unchanged"]) == (SKIPPED, FAILED, 0)


def test_the_second_run_finds_everything_unchanged(demo: DemoRun) -> None:
    assert demo.second.returncode == 0, demo.second.stderr
    counted = summary(demo.second)
    assert (counted["discovered"], counted["unchanged"]) == (STUDIES, STUDIES)
    assert (counted["reported"], counted["skipped"], counted["failed"]) == (0, 0, 0)


def test_make_runs_it(demo: DemoRun) -> None:
    assert readme.commands("make") == [["make", "demo"], ["make", "test"]]
    assert demo.made.returncode == 0, demo.made.stderr
    assert "Machine-made drafts" in demo.made.stdout
    assert "NIH Clinical Center" in " ".join(demo.made.stdout.split())


def test_consumers_read_the_views(postgres: EmbeddedPostgres) -> None:
    found = rows(
        postgres.url, "SELECT status, findings, impression, diagnostic_report FROM firstread.reports"
    )
    assert len(found) == REPORTED
    for status, findings, impression, resource in found:
        assert status == "partial"
        assert findings
        assert impression
        assert resource["resourceType"] == "DiagnosticReport"
        assert any(label["code"] == "AIAST" for label in resource["meta"]["security"])
    states = dict(rows(postgres.url, "SELECT state, count(*) FROM firstread.studies GROUP BY state"))
    assert states == {"reported": REPORTED, "skipped": SKIPPED}
    reasons = [
        reason
        for (reason,) in rows(postgres.url, "SELECT reason FROM firstread.ledger WHERE state = 'skipped'")
    ]
    assert all("firstread-mini reads frontal chest films" in reason for reason in reasons), reasons
    for what in ("a radiograph of the left hand", "a CT", "a photograph"):
        assert any(what in reason for reason in reasons), reasons


def test_the_audit_chain_holds(demo: DemoRun, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    verified = firstread("audit", "verify", "--json", cwd=tmp_path, FIRSTREAD_DATA_DIR=str(demo.data_dir))
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout.splitlines()[-1])["rows"] > REPORTED


def test_no_patient_data_outside_the_store(demo: DemoRun, postgres_server: EmbeddedPostgres) -> None:
    """Every identifier of the sample against every sink: output, log files, the Prefect database, files left behind."""
    identifiers = _sample_identifiers(demo.data_dir / "demo" / "sample")
    assert len(identifiers) > 60
    sinks = {
        "first output": demo.first.stdout + demo.first.stderr,
        "second output": demo.second.stdout + demo.second.stderr,
        "output by make": demo.made.stdout + demo.made.stderr,
        "prefect database": _whole_database(postgres_server.database_url_for("prefect")),
    }
    kept = ("postgres/cluster", "demo/sample", "demo/pacs/instances")
    for path in demo.data_dir.rglob("*"):
        name = path.relative_to(demo.data_dir).as_posix()
        if path.is_file() and not name.startswith(kept):
            sinks[name] = name + path.read_bytes().decode("utf-8", "replace")
    assert "flow_run" in sinks["prefect database"]
    for sink, text in sinks.items():
        leaked = sorted(identifier for identifier in identifiers if identifier in text)
        assert not leaked, f"{sink} holds {leaked[:3]}"


def _sample_identifiers(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for keyword in (
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SOPInstanceUID",
            "PatientID",
            "AccessionNumber",
        ):
            found.add(str(dataset.get(keyword, "")))
        found.update(str(dataset.get("PatientName", "")).replace("=", "^").split("^"))
        found.add(str(dataset.get("PatientBirthDate", "")))
    return {identifier for identifier in found if len(identifier) > 3}


def _whole_database(url: str) -> str:
    tables = rows(
        url,
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'",
    )
    parts: list[str] = []
    for (table,) in tables:
        parts.append(str(table))
        parts.extend(str(row[0]) for row in rows(url, f"SELECT t::text FROM {table} t"))
    return "\n".join(parts)
