"""A Postgres of the distribution on loopback, and PgBouncer before a server: the peers of the store's tests."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.servers import free_port

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens; ``password`` is that of ``user``, an administrator."""

    port: int
    user: str = "postgres"
    password: str = "not a secret"

    def url(self, database: str, *, user: str = "", password: str = "") -> str:
        """As ``postgresql+psycopg://``."""
        name, secret = user or self.user, (password or self.password).replace(" ", "%20")
        return f"postgresql+psycopg://{name}:{secret}@127.0.0.1:{self.port}/{database}"

    def admin(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """A session of the administrator, in autocommit."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
        )


def distribution_binaries() -> Path | None:
    """The newest Postgres that the distribution installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def distribution_server(binaries: Path, folder: Path, encoding: str = "UTF8") -> Iterator[Server]:
    """A cluster in ``folder``, which the server's user may reach, for the length of the block."""
    server, user = Server(free_port()), _unprivileged()
    secret, data = folder / "secret", folder / "data"
    secret.write_text(server.password + "\n")
    data.mkdir()
    if user is not None:
        for path in (folder, secret, data):
            os.chown(path, user, -1)
    run = {"cwd": "/", "user": user, "extra_groups": []} if user is not None else {"cwd": "/"}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", server.user, "--auth=scram-sha-256", f"--pwfile={secret}",
         f"--encoding={encoding}", "--locale=C", "--no-sync"],
        check=True, capture_output=True, **run,
    )  # fmt: skip
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(server.port), "-c", "listen_addresses=127.0.0.1",
         "-c", "unix_socket_directories=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **run,
    )  # fmt: skip
    try:
        _await(server.port)
        yield server
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextmanager
def pooler(folder: Path, mode: str, *, host_port: int, user: str, password: str) -> Iterator[int]:
    """PgBouncer before the server at ``host_port``, in ``mode``, for the length of the block; gives its port."""
    port, uid = free_port(), _unprivileged()
    (folder / "users.txt").write_text(f'"{user}" "{password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={host_port} user={user} password='{password}'\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = 4\n"
        "ignore_startup_parameters = extra_float_digits,options\n"
    )
    if uid is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, uid, -1)
    run: dict[str, Any] = {"user": uid, "extra_groups": []} if uid is not None else {}
    process = subprocess.Popen(
        [shutil.which("pgbouncer") or "pgbouncer", "-q", folder / "pgbouncer.ini"],
        cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **run,
    )  # fmt: skip
    try:
        _await(port)
        yield port
    finally:
        process.terminate()
        process.wait(SECONDS)


def _unprivileged() -> int | None:
    """Both servers refuse to run as root: somebody else, where this is root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _await(port: int) -> None:
    """Until it answers a login, be it with a refusal of that login."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="nobody", password="-", dbname="x").close()
        except psycopg.OperationalError as error:
            if "refused" not in str(error) and "starting up" not in str(error):
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")
