"""What has to hold when the faults have stopped and all is at rest: database, files, audit, logs, processes."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.programs import marked
from tests.chaos.site import ChaosSite
from tests.chaos.traffic import ArchiveRest
from tests.chaos.world import PLANTED, World, data_set_sha256
from tests.sites import rows

FINISHED = ("final", "amended", "corrected", "appended")
MOST_TOLD = 5
ROOMS = ("flows", "models", "pipeline")
UID = re.compile(r"2\.25\.[0-9]{20,}")


@dataclass(frozen=True, slots=True)
class Archived:
    """A study as the archive has it now."""

    patient_id: str
    films: frozenset[str]


def violations(site: ChaosSite, world: World) -> list[str]:
    """All that does not hold, with servers running; the listener has ended."""
    archived = archive_holds(ArchiveRest(site.rest))
    found: list[str] = []
    for name, oracle in (
        ("acknowledged and lost", lambda: lost(site, world)),
        ("more than one report", lambda: twice_in_force(site)),
        ("drafted twice", lambda: drafted_twice(site)),
        ("final", lambda: finished(site)),
        ("superseded and in force", lambda: superseded(site)),
        ("not as the archive has it", lambda: unlike_the_archive(site, world, archived)),
        ("audit", lambda: audit(site)),
        ("left in the ledger", lambda: left_in_the_ledger(site)),
        ("left on the disk", lambda: left_on_disk(site)),
        ("patient data", lambda: leaks(site, world)),
        ("traceback", lambda: tracebacks(site)),
    ):
        seen = list(oracle())
        found += [f"{name}: {one}" for one in seen[:MOST_TOLD]]
        if len(seen) > MOST_TOLD:
            found.append(f"{name}: and {len(seen) - MOST_TOLD} more")
    return found


def archive_holds(rest: ArchiveRest) -> dict[str, Archived]:
    """Every study that Orthanc has, by Study Instance UID, told by its own REST."""
    found = {}
    for study in rest.ask("/studies?expand"):
        films = rest.ask(f"/studies/{study['ID']}/instances")
        found[str(study["MainDicomTags"]["StudyInstanceUID"])] = Archived(
            str(study["PatientMainDicomTags"]["PatientID"]),
            frozenset(str(film["MainDicomTags"]["SOPInstanceUID"]) for film in films),
        )
    return found


def lost(site: ChaosSite, world: World) -> Iterator[str]:
    """Acknowledged instances without a report that names them, a reason, or a file of their bytes."""
    held = {
        (sop, sha): (study, code, path)
        for study, sop, sha, code, path in rows(
            site.database_url,
            "SELECT study_instance_uid, sop_instance_uid, sha256, settled_code, path FROM firstread.instance",
        )
    }
    named = _instances_named(site)
    for film in {(one.sop_instance_uid, one.digest): one for one in world.acknowledged}.values():
        row = held.get((film.sop_instance_uid, film.digest))
        if row is None:
            yield f"study {film.study}: an acknowledged instance has no row"
            continue
        study, code, path = row
        on_disk = bool(path) and Path(path).exists() and data_set_sha256(Path(path)) == film.sha256
        if code in ("reported", "unchanged"):
            if film.sop_instance_uid not in named[study] and not on_disk:
                yield f"study {film.study}: settled as {code}, in no report and on no disk"
        elif code == "file-missing" or (not code and not on_disk):
            yield f"study {film.study}: neither settled nor on the disk ({code or 'waiting'})"


def twice_in_force(site: ChaosSite) -> Iterator[str]:
    """Studies with more than one current report."""
    for uid, count in rows(
        site.database_url,
        "SELECT study_instance_uid, count(*) FROM firstread.reports GROUP BY 1 HAVING count(*) > 1",
    ):
        yield f"{uid} has {count} reports"


def drafted_twice(site: ChaosSite) -> Iterator[str]:
    """Consecutive versions of a report over one manifest by one recipe; one that changed and changed back is none.

    Nor is a former draft that is current again because its study came back: no model wrote that.
    """
    former: dict[str, tuple[str, str]] = {}
    for report, version, manifest, recipe in rows(
        site.database_url,
        "SELECT report_id, version, manifest_digest, recipe FROM firstread.report_version "
        "WHERE reinstated_from IS NULL ORDER BY report_id, version",
    ):
        if former.get(report) == (manifest, recipe):
            yield f"report {report}, version {version}"
        former[report] = (manifest, recipe)


def finished(site: ChaosSite) -> Iterator[str]:
    """Resources, now or ever, with a status that only a person gives."""
    for kind, status, count in rows(
        site.database_url,
        "SELECT resource_type, body ->> 'status', count(*) FROM firstread.resource_history "
        f"WHERE resource_type IN ('DiagnosticReport', 'Observation') AND body ->> 'status' IN {FINISHED} GROUP BY 1, 2",
    ):
        yield f"{count} {kind} are {status}"


def superseded(site: ChaosSite) -> Iterator[str]:
    """Observations in force that no current report names, or of another patient than their report."""
    reports = {
        report: (body.get("subject"), {one["reference"] for one in body.get("result", [])})
        for report, body in rows(
            site.database_url,
            "SELECT resource_id, body FROM firstread.resource "
            "WHERE resource_type = 'DiagnosticReport' AND body ->> 'status' <> 'entered-in-error'",
        )
    }
    for observation, report, subject in rows(
        site.database_url,
        "SELECT resource_id, report_id, body -> 'subject' FROM firstread.resource "
        "WHERE resource_type = 'Observation' AND body ->> 'status' NOT IN ('entered-in-error', 'cancelled')",
    ):
        owner, results = reports.get(report, (None, set[str]()))
        if f"Observation/{observation}" not in results:
            yield f"Observation {observation} is in force and in no current report"
        elif owner != subject:
            yield f"Observation {observation} is of another patient than its report"


def unlike_the_archive(site: ChaosSite, world: World, archived: dict[str, Archived]) -> Iterator[str]:
    """Studies whose current report is not about what the archive has now, with what was pushed beside it."""
    current = _current_reports(site)
    states: dict[str, tuple[str, str]] = {
        uid: (state, code)
        for uid, state, code in rows(
            site.database_url,
            "SELECT study_instance_uid, state::text, code FROM firstread.ledger WHERE in_force",
        )
    }
    acknowledged = defaultdict[int, set[str]](set)
    for film in world.acknowledged:
        acknowledged[film.study].add(film.sop_instance_uid)
    for study in world.studies:
        there = archived.get(study.uid, Archived("", frozenset()))
        pushed = acknowledged[study.number]
        if not there.films and not pushed:
            continue
        report = current.get(study.uid)
        if report is None:
            yield f"study {study.number}: no report, {states.get(study.uid, 'no row in the ledger')}"
            continue
        patient, films = report
        if not there.films | pushed >= films >= there.films:
            yield f"study {study.number}: reported on {len(films)}, archive {len(there.films)}, pushed {len(pushed)}"
        if not there.films and films != pushed:
            yield f"study {study.number}: pushed {len(pushed)}, reported on {len(films)}"
        if there.patient_id and patient != there.patient_id:
            yield f"study {study.number}: of another patient than in the archive"


def audit(site: ChaosSite) -> Iterator[str]:
    """The audit chain and the digests of what was written."""
    done = site.firstread("audit", "verify", "--json")
    if done.returncode != 0:
        yield f"audit verify ends with {done.returncode}: {done.stdout[-300:]}"


def left_in_the_ledger(site: ChaosSite) -> Iterator[str]:
    """Leases, open rows, rows marked as changed, and locks of processes that claim."""
    for state, code, count in rows(
        site.database_url,
        "SELECT state::text, code, count(*) FROM firstread.ledger WHERE lease_owner IS NOT NULL OR rediscovered "
        "OR state NOT IN ('reported', 'skipped') GROUP BY 1, 2",
    ):
        yield f"{count} rows {state} {code}"
    for (count,) in rows(
        site.database_url,
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1179800404 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) HAVING count(*) > 0",
    ):
        yield f"{count} claims' locks are held"


def left_on_disk(site: ChaosSite) -> Iterator[str]:
    """Part files, work folders, temporary files, files in the inbox that no row knows, a health file of nobody."""
    for pattern in ("**/*.part", "work/run-*", "listener.json", "*.new"):
        yield from (str(path.relative_to(site.data)) for path in site.data.glob(pattern))
    yield from (f"tmp/{path.name}" for path in (site.folder / "tmp").iterdir())
    known = {
        path for (path,) in rows(site.database_url, "SELECT path FROM firstread.instance WHERE path <> ''")
    }
    for path in (site.data / "inbox").rglob("*"):
        if path.is_file() and str(path) not in known:
            yield f"a file of the inbox without a row ({path.suffix})"
        elif path.is_dir() and path.name != "arriving" and not any(path.iterdir()):
            yield "an empty folder of the inbox"
    for path in known:
        if not Path(path).exists():
            yield "a row of the inbox without a file"


def leaks(site: ChaosSite, world: World) -> Iterator[str]:
    """Names, numbers and UIDs in logs, outputs, Prefect's folder and tables, or files of the data folder."""
    uids = world.uids()
    ours = [site.folder / "prefect-home", site.folder / "prefect-server-home"]
    files = [path for path in site.folder.glob("*.log") if path != site.orthanc.log]
    files += [path for folder in ours for path in folder.rglob("*") if path.is_file()]
    files += [path for path in site.data.iterdir() if path.is_file()]
    for path in files:
        yield from (
            f"{path.name}: {one}" for one in _planted(path.read_bytes().decode("utf-8", "replace"), uids)
        )
    if site.prefect is not None:
        for (table,) in rows(
            site.prefect_database_url.replace("+asyncpg", "+psycopg"),
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'",
        ):
            text = "\n".join(
                str(row)
                for (row,) in rows(
                    site.prefect_database_url.replace("+asyncpg", "+psycopg"),
                    f"SELECT t::text FROM {table} t",
                )
            )
            yield from (f"Prefect's {table}: {one}" for one in _planted(text, uids))


def tracebacks(site: ChaosSite) -> Iterator[str]:
    """What the product's own commands said that no person should have to read.

    A traceback without a frame of ours is of the interpreter, which was stopped before it came to us.
    """
    for path in (site.listener.log, *(run.log for run in site.runs), site.folder / "commands.log"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for number, line in enumerate(lines):
            ours = any(f"/{room}/" in one for one in lines[number : number + 8] for room in ROOMS)
            if ("Traceback" in line and ours) or "a fault of Firstread" in line or ": unexpected " in line:
                yield f"{path.name}:{number + 1}: {line[:160]}"


def processes_left(site: ChaosSite) -> list[str]:
    """Processes of this site that live when all of it was stopped."""
    return [f"a process is left: {command[:120]}" for command in marked(site.mark).values()]


def _planted(text: str, uids: set[str]) -> Iterator[str]:
    for word in PLANTED:
        if word in text:
            yield f"holds {word}"
    if uids & set(UID.findall(text)):
        yield "holds a UID"


def _instances_named(site: ChaosSite) -> dict[str, set[str]]:
    """By study, the SOP Instance UIDs that any version of its ImagingStudy or a draft's left-out list names."""
    found = defaultdict[str, set[str]](set)
    for uid, body in rows(
        site.database_url,
        "SELECT r.study_instance_uid, h.body FROM firstread.resource_history AS h "
        "JOIN firstread.resource AS r USING (resource_type, resource_id) WHERE resource_type = 'ImagingStudy'",
    ):
        found[uid] |= _films_of(body)
    return found


def _current_reports(site: ChaosSite) -> dict[str, tuple[str, frozenset[str]]]:
    """By study, PatientID and instances of the report in force."""
    found = {}
    for uid, patient, body in rows(
        site.database_url,
        "SELECT d.study_instance_uid, p.body #>> '{identifier,0,value}', i.body FROM firstread.reports AS d "
        "JOIN firstread.resource AS p ON p.resource_type = 'Patient' AND 'Patient/' || p.resource_id = d.patient "
        "JOIN firstread.resource AS i ON i.resource_type = 'ImagingStudy' "
        "AND 'ImagingStudy/' || i.resource_id = d.diagnostic_report #>> '{imagingStudy,0,reference}'",
    ):
        found[uid] = (patient, frozenset(_films_of(body)))
    return found


def _films_of(imaging_study: dict[str, Any]) -> set[str]:
    return {
        str(instance["uid"])
        for series in imaging_study.get("series", [])
        for instance in series.get("instance", [])
    }
