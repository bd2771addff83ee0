"""The deployments on a real server and worker; studies that a PACS pushes.

nightly-sweep, backfill and on-study-complete are deployed with ``prefect deploy --all`` and draft through a process
worker. Orthanc forwards on its own (Lua), dcmtk's storescu sends; the listener decides and emits the event.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
import pytest

from flows.commands.simulate import WrittenStudy, simulate
from tests import readme
from tests.servers import Peer, free_port, orthanc, store, store_over_rest
from tests.sites import environment, firstread, rows, running, until, write_site

FORWARD = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin["RequestOrigin"] ~= "Lua" then
    SendToModality(instanceId, "listener")
  end
end
"""


@dataclass(frozen=True)
class Site:
    folder: Path
    config: Path
    database_url: str
    prefect_api: str
    orthanc: Peer
    listen_port: int
    studies: tuple[WrittenStudy, ...]


@pytest.fixture
def site(database_url: str, prefect_url: str, tmp_path: Path) -> Iterator[Site]:
    """An Orthanc that forwards all it gets to our listener, and a configuration that asks it by DICOMweb."""
    listen_port = free_port()
    lua = tmp_path / "forward.lua"
    lua.write_text(FORWARD)
    modalities = {"listener": {"AET": "FIRSTREAD", "Host": "127.0.0.1", "Port": listen_port}}
    with orthanc(tmp_path / "orthanc", LuaScripts=[str(lua)], DicomModalities=modalities) as peer:
        config = write_site(
            tmp_path,
            database_url,
            {"main": {"kind": "dicomweb", "url": peer.dicomweb}},
            listen={"port": listen_port, "quiet_seconds": 1.0, "min_free_gib": 0.1},
            prefect={"api_url": prefect_url},
        )
        studies = simulate(4, tmp_path / "films", seed=9).studies
        yield Site(tmp_path, config, database_url, prefect_url, peer, listen_port, studies)


def prefect(site: Site, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=readme.ROOT, env=environment(site.prefect_api), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def by_variables(site: Site) -> dict[str, str]:
    """The site's configuration as a worker gets it where its deployments name no file."""
    return {
        "FIRSTREAD_DATA_DIR": str(site.folder / "data"),
        "FIRSTREAD_DATABASE__URL": site.database_url,
        "FIRSTREAD_ARCHIVES__MAIN__KIND": "dicomweb",
        "FIRSTREAD_ARCHIVES__MAIN__URL": site.orthanc.dicomweb,
    }


def reported(site: Site) -> int:
    return int(rows(site.database_url, "SELECT count(*) FROM firstread.reports")[0][0])


def listener(site: Site) -> list[str]:
    return [
        str(Path(sys.executable).with_name("firstread")),
        "listen",
        "--verbose",
        "--config",
        str(site.config),
    ]


def listens(site: Site) -> bool:
    return "listening as" in (site.folder / "listen.log").read_text()


def test_deployments_and_pushed_studies(site: Site) -> None:
    variables = environment(site.prefect_api)
    config = json.dumps(str(site.config))
    pool, deploy, work = readme.commands("prefect")[-3:]
    prefect(site, *pool[1:])
    prefect(site, *deploy[1:])
    worker = [sys.executable, "-m", *work]
    worker_log = site.folder / "worker.log"
    worker_environment = variables | by_variables(site) | {"PREFECT_LOGGING_LEVEL": "INFO"}
    with running(worker, worker_log, cwd=readme.ROOT, env=worker_environment):
        with running(listener(site), site.folder / "listen.log", cwd=site.folder, env=environment()):
            until(lambda: listens(site), "the listener's start")
            # Orthanc is sent one study and forwards it; storescu sends another one straight to the listener.
            store_over_rest(site.orthanc, *site.studies[0].paths)
            store(Peer("FIRSTREAD", site.listen_port), *site.studies[1].paths)
            until(lambda: reported(site) == 2, "on-study-complete")
        inbox = site.folder / "data" / "inbox"
        until(lambda: len(list(inbox.rglob("*.dcm"))) == 1, "the removal of what the report rests on")
        kept = [path.parent.name for path in inbox.rglob("*.dcm")]
        assert kept == [site.studies[1].study_instance_uid], "of what no archive has ours is the only copy"
        # Nobody listens any more: what comes now is found by the scheduled flows alone.
        store_over_rest(site.orthanc, *site.studies[2].paths)
        days = _days_back(site.studies)
        prefect(site, "deployment", "run", "sweep/nightly-sweep",
                "--param", f"config={config}", "--param", f"days={days}", "--watch")  # fmt: skip
        assert reported(site) == 3
        store_over_rest(site.orthanc, *site.studies[3].paths)
        day = _study_date(site.studies[3]).isoformat()
        prefect(site, "deployment", "run", "backfill/backfill", "--param", f"config={config}",
                "--param", f'since="{day}"', "--param", f'until="{day}"', "--watch")  # fmt: skip
        assert reported(site) == 4
    versions = {version for (version,) in rows(site.database_url, "SELECT version FROM firstread.reports")}
    assert versions == {1}


def test_one_run_drafts_a_batch_of_arrivals(site: Site) -> None:
    """Four studies pushed at once are one event and one run, and the run is known as ours before it begins."""
    pool, deploy, work = readme.commands("prefect")[-3:]
    prefect(site, *pool[1:], "--overwrite")
    prefect(site, *deploy[1:])
    before = draft_runs(site)
    with running(listener(site), site.folder / "listen.log", cwd=site.folder, env=environment()):
        until(lambda: listens(site), "the listener's start")
        store(Peer("FIRSTREAD", site.listen_port), *(path for study in site.studies for path in study.paths))
        waiting = "SELECT FROM firstread.instance WHERE handed_over_at IS NULL"
        until(lambda: not rows(site.database_url, waiting), "the hand-over of all")
        until(lambda: len(draft_runs(site)) > len(before), "the run of the event")
        time.sleep(5)
        made = {run: tags for run, tags in draft_runs(site).items() if run not in before}
        assert list(made.values()) == [["firstread"]]
        variables = environment(site.prefect_api) | by_variables(site)
        with running(
            [sys.executable, "-m", *work], site.folder / "worker.log", cwd=readme.ROOT, env=variables
        ):
            until(lambda: reported(site) == len(site.studies), "the drafts")
    assert len(draft_runs(site)) - len(before) <= 2, "one more where a study was handed over in between"


def draft_runs(site: Site) -> dict[str, list[str]]:
    """The runs of the flow ``draft``, each with its tags."""
    body = {"flows": {"name": {"any_": ["draft"]}}}
    request = urllib.request.Request(
        f"{site.prefect_api}/flow_runs/filter",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {run["id"]: run["tags"] for run in json.load(answer)}


def test_a_killed_listener_loses_nothing_it_acknowledged(site: Site) -> None:
    with running(listener(site), site.folder / "listen.log", cwd=site.folder, env=environment()) as process:
        until(lambda: listens(site), "the listener's start")
        store(Peer("FIRSTREAD", site.listen_port), *(path for study in site.studies for path in study.paths))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    held = rows(site.database_url, "SELECT path FROM firstread.instance")
    assert len(held) == sum(len(study.paths) for study in site.studies)
    assert all(pydicom.dcmread(path).SOPInstanceUID for (path,) in held)
    with running(listener(site), site.folder / "listen.log", cwd=site.folder, env=environment()):
        until(
            lambda: len(rows(site.database_url, "SELECT FROM firstread.studies")) == len(site.studies),
            "the hand-over after the restart",
        )
    drafted = firstread(
        "run", "--json", "--config", str(site.config), cwd=site.folder, prefect_api=site.prefect_api
    )
    assert drafted.returncode == 0, drafted.stderr


def _days_back(studies: tuple[WrittenStudy, ...]) -> int:
    oldest = min(_study_date(study) for study in studies)
    return (date.today() - oldest).days + 2  # noqa: DTZ011 - days counted back from today, as the flow does


def _study_date(study: WrittenStudy) -> date:
    text = str(pydicom.dcmread(study.paths[0], stop_before_pixels=True).StudyDate)
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
