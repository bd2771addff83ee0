"""A site's Prefect server with a password, as docs/running.md says: another account of the machine is told nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.store.embedded import EmbeddedPostgres
from tests.prefect_server import prefect_server
from tests.sites import firstread, summary, write_site

PASSWORD = "firstread:a-long-word"
ASK = """
import json, sys, urllib.error, urllib.request
def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(sys.argv[1] + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
print(json.dumps([
    ask("/admin/settings"), ask("/flow_runs/filter", {}), ask("/work_pools/filter", {}), ask("/events/filter", {}),
    ask("/v2/concurrency_limits/", {"name": "archive-main", "limit": 0, "active": True}),
]))
"""


@pytest.fixture(scope="module")
def api(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = postgres_server.database_url_for("prefect_password")
    with prefect_server(
        database, tmp_path_factory.mktemp("prefect"), PREFECT_SERVER_API_AUTH_STRING=PASSWORD
    ) as url:
        yield url


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else"
)
def test_another_account_reads_and_sets_nothing(api: str) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*as_nobody, "/usr/bin/env", "python3", "-I", "-c", ASK, api],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if (
        done.returncode
    ):  # an interpreter under /root is none for nobody: the requests carry no credential either way
        done = subprocess.run(
            [sys.executable, "-I", "-c", ASK, api], capture_output=True, text=True, check=True
        )
    assert json.loads(done.stdout) == [401] * 5


def test_a_run_is_recorded_by_who_knows_the_password_and_goes_on_without(
    api: str, work_url: str, tmp_path: Path
) -> None:
    (tmp_path / "films").mkdir()
    config = write_site(tmp_path, work_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    known = firstread(
        "run",
        "--json",
        "--config",
        str(config),
        cwd=tmp_path,
        prefect_api=api,
        PREFECT_API_AUTH_STRING=PASSWORD,
    )
    assert known.returncode == 0, known.stderr
    assert summary(known)["failed"] == 0
    assert PASSWORD not in known.stderr + known.stdout
    unknown = firstread("run", "--json", "--config", str(config), cwd=tmp_path, prefect_api=api)
    assert "Traceback" not in unknown.stderr
    assert unknown.returncode in (0, 3), unknown.stderr
