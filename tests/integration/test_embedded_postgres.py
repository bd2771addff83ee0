"""The embedded server: shared by processes, stopped by the last, and unharmed by kill -9 of anybody."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import StopRun
from pipeline.store import embedded
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
QUICK = {"fsync": "off"}
USE = """
import sys
from pathlib import Path
from pipeline.store.embedded import EmbeddedPostgres
with EmbeddedPostgres.ensure(Path(sys.argv[1]), {"fsync": "off"}) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def user(data_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that uses the server until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def answers(url: str) -> bool:
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=5) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0])


def keeper(data_dir: Path) -> int:
    """Process id of the keeper of this folder's server, from the processes of the machine."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            any(word.endswith(b"/keeper.py") for word in words)
            and str(data_dir / "postgres").encode() in words
        ):
            return int(entry.name)
    raise AssertionError("no keeper")


def test_a_real_server_with_a_password(tmp_path: Path) -> None:
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        with psycopg.connect(libpq_url(server.url)) as connection:
            settings = {
                name: connection.execute(f"SHOW {name}").fetchone()
                for name in ("data_checksums", "listen_addresses", "password_encryption")
            }
            (superuser,) = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() or ("?",)
            with pytest.raises(psycopg.Error):
                connection.execute("SELECT 'Doe^Jane'::integer")
        assert settings["data_checksums"] == ("on",)
        assert settings["listen_addresses"] == ("127.0.0.1",)
        assert settings["password_encryption"] == ("scram-sha-256",)
        assert not list(server.cluster.glob(".s.PGSQL*")), "TCP only"
        assert superuser is False
        assert not answers(server.url.replace("firstread:", "firstread:wrong"))
        assert answers(server.database_url_for("prefect", "psycopg"))
        assert server.database_url_for("prefect").startswith("postgresql+asyncpg://firstread_migrator:")
        url = server.url
    password = tmp_path / "postgres" / "password"
    assert password.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "postgres" / "cluster").stat().st_mode & 0o777 == 0o700
    log = (tmp_path / "postgres" / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "Doe" not in log, "the server's log repeats no values"
    assert not answers(url), "the last user has stopped it"

    with EmbeddedPostgres.ensure(tmp_path, QUICK) as again:
        assert again.url == url, "the same port and password"


def test_processes_share_one_server(tmp_path: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(user(tmp_path)) for _ in range(4)]
        urls = {said(one) for one in users}
        assert len(urls) == 1
        (url,) = urls
        for one in users[:3]:
            assert one.stdin is not None
            one.stdin.close()
            one.wait(timeout=60)
        assert answers(url), "one user is left"
    assert not answers(url)


def test_kill_9_of_the_only_user_stops_the_server(tmp_path: Path) -> None:
    with user(tmp_path) as doomed:
        url = said(doomed)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        assert eventually(lambda: not answers(url))
        assert eventually(lambda: not embedded._held(tmp_path / "postgres" / "keeper.lock"))


def test_kill_9_of_the_keeper_harms_nobody(tmp_path: Path) -> None:
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        orphan = postmaster(tmp_path)
        os.kill(keeper(tmp_path), signal.SIGKILL)
        assert answers(server.url)
        with user(tmp_path) as other:
            assert said(other) == server.url
            assert postmaster(tmp_path) == orphan, "the running server was adopted"
        os.kill(keeper(tmp_path), signal.SIGKILL)
        assert eventually(lambda: not embedded._held(tmp_path / "postgres" / "keeper.lock")), (
            "it is dead by now"
        )
    assert not answers(server.url), "the last user sees to it that the server is stopped all the same"


def test_kill_9_of_the_server_is_mended_by_the_next_command(tmp_path: Path) -> None:
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        with psycopg.connect(libpq_url(server.migration_url), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(keeper(tmp_path), signal.SIGKILL)
        os.kill(postmaster(tmp_path), signal.SIGKILL)
        assert eventually(lambda: not answers(server.migration_url))
    with (
        EmbeddedPostgres.ensure(tmp_path, QUICK) as server,
        psycopg.connect(libpq_url(server.migration_url)) as connection,
    ):
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)


def test_what_a_crash_left_behind_is_cleared(tmp_path: Path) -> None:
    """A process id file that now names somebody else, a half-made cluster, and a port that was taken meanwhile."""
    half = tmp_path / "postgres" / "init" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        url = server.url
    cluster = tmp_path / "postgres" / "cluster"
    port = int((tmp_path / "postgres" / "port").read_text())
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n1\n{port}\n\n127.0.0.1\n\nready\n")
    with socket.create_server(("127.0.0.1", port)), EmbeddedPostgres.ensure(tmp_path, QUICK) as moved:
        assert moved.url != url
        assert answers(moved.url)


def test_a_server_that_cannot_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STARTS", 1)
    with pytest.raises(StopRun, match=r"server\.log"):
        EmbeddedPostgres.ensure(tmp_path, {"shared_buffers": "nonsense"})
    assert not embedded._held(tmp_path / "postgres" / "users.lock"), "nothing is held after a failure"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_another_user_is_left_alone(tmp_path: Path) -> None:
    with EmbeddedPostgres.ensure(tmp_path, QUICK):
        pass
    script = USE.replace("with EmbeddedPostgres", "os.setuid(65534)\nwith EmbeddedPostgres")
    stranger = subprocess.run(
        [sys.executable, "-c", f"import os{script}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stranger.returncode == 1
    assert "belongs to another user" in stranger.stderr


def without_account() -> int:
    known = {one.pw_uid for one in pwd.getpwall()}
    return next(uid for uid in range(1234, 60_000) if uid not in known)


def as_user(uid: int) -> list[str]:
    """The words before a command that run it as ``uid``; the capability lets that user pass to a Python under /root.

    It gives no right to write.
    """
    return [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search", "--securebits=+no_setuid_fixup",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_an_account_is_told_what_to_set() -> None:
    """As containers run: a bare user id (initdb: could not look up effective user ID)."""
    uid = without_account()
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, uid, uid)
    try:
        done = subprocess.run(
            [*as_user(uid), sys.executable, "-c", USE, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert f"user id {uid}" in done.stderr
        assert "set [database] url" in done.stderr
        assert list(folder.iterdir()) == [], "nothing is left behind"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_cluster_whose_owner_has_no_account(tmp_path: Path) -> None:
    """Root opens a folder that a container has left."""
    cluster = tmp_path / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    os.chown(cluster, without_account(), -1)
    with pytest.raises(StopRun, match=r"has no account .* set \[database\] url"):
        EmbeddedPostgres.ensure(tmp_path, QUICK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_needs_no_other() -> None:
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, 65534, 65534)
    try:
        done = subprocess.run(
            [*as_user(65534), sys.executable, "-c", USE, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith("postgresql+psycopg://"), done.stderr
        assert (folder / "postgres" / "cluster").stat().st_uid == 65534
    finally:
        shutil.rmtree(folder, ignore_errors=True)
