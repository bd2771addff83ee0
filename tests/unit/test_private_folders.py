"""What lies in ``data_dir`` is this account's alone: modes, owners, links, and what other programs are given."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands import doctor
from pipeline import settings as configuration
from pipeline.errors import FirstreadError, StopRun
from pipeline.folders import keep_private, make_writable, open_private
from pipeline.store.embedded import EmbeddedPostgres
from tests.sites import environment, firstread, write_site

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o777


def test_a_new_folder_and_one_of_an_earlier_release_are_closed_to_others(tmp_path: Path) -> None:
    make_writable("data_dir", tmp_path / "new")
    (tmp_path / "old").mkdir(mode=0o755)
    (tmp_path / "old").chmod(0o755)
    make_writable("data_dir", tmp_path / "old")
    assert (mode(tmp_path / "new"), mode(tmp_path / "old") & 0o066) == (0o700, 0)


@pytest.mark.parametrize("inner", ["", "postgres"])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, inner: str) -> None:
    (tmp_path / "data" / inner).mkdir(parents=True)
    (tmp_path / "data" / inner).chmod(0o777)
    with pytest.raises(StopRun, match=r"folder-of-another.*chmod go-w"):
        keep_private("data_dir", tmp_path / "data")


@ROOT
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_another_account_put_there_is_refused(tmp_path: Path, kind: str) -> None:
    data, nobody = tmp_path / "data", pwd.getpwnam("nobody").pw_uid
    data.mkdir()
    entry = data / "postgres"
    if kind == "folder":
        entry.mkdir()
    elif kind == "file":
        entry.touch()
    else:
        entry.symlink_to(tmp_path)
    os.chown(entry, nobody, -1, follow_symlinks=False)
    with pytest.raises(StopRun, match=r"folder-of-another.*belongs to nobody"):
        keep_private("data_dir", data)
    os.chown(entry, 0, -1, follow_symlinks=False)
    os.chown(data, nobody, -1)
    with pytest.raises(StopRun, match=r"folder-of-another.*belongs to nobody"):
        make_writable("data_dir", data)


@ROOT
def test_a_command_writes_nothing_through_the_links_of_another_account(tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious\n")
    (tmp_path / "films").mkdir()
    config = write_site(tmp_path / "site", "", {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    data = tmp_path / "site" / "data"
    (data / "postgres").mkdir()
    for name in ("server.log", "port", "users.lock"):
        (data / "postgres" / name).symlink_to(victim)
    for path in (data, data / "postgres"):
        os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    for command in ("run", "doctor", "listen", "status"):
        asked = (command, "--json") if command == "doctor" else (command,)
        done = firstread(*asked, "--config", str(config), cwd=tmp_path)
        assert victim.read_text() == "precious\n"
        assert done.returncode in (1, 3), command  # doctor names it among its parts
        assert "belongs to nobody" in done.stdout + done.stderr, command


def test_a_link_in_the_place_of_a_file_of_ours_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(OSError, match="Too many levels"),
        open(tmp_path / "link", "w", opener=open_private),
    ):
        pass
    with open(tmp_path / "plain", "x", opener=open_private):
        assert mode(tmp_path / "plain") == 0o600


def test_all_that_a_command_writes_is_this_accounts_alone(tmp_path: Path) -> None:
    """With the umask that most systems have, also the embedded server's files; root lets its account pass, no more."""
    (tmp_path / "films").mkdir()
    config = write_site(tmp_path / "site", "", {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    out = tmp_path / "audit.ndjson"
    previous = os.umask(0o022)
    try:
        for command in (
            ["run"],
            ["audit", "export", "--out", str(out)],
            ["export", "--out", f"{out}.reports"],
        ):
            done = firstread(*command, "--config", str(config), cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    finally:
        os.umask(previous)
    data = tmp_path / "site" / "data"
    engines = (data / "engines").resolve()
    seen = [
        data,
        out,
        Path(f"{out}.reports"),
        *(one for one in data.rglob("*") if engines not in one.parents),
    ]
    open_to_others = {str(one): oct(mode(one)) for one in seen if not one.is_symlink() and mode(one) & 0o066}
    assert open_to_others == {}
    assert (data / "postgres" / "cluster").exists()


def test_a_command_leaves_no_core() -> None:
    """What a dying process has in memory is of patients; soft limits that allow a core are taken back."""
    program = "import atexit, resource, sys; limit = resource.RLIMIT_CORE\n"
    program += "resource.setrlimit(limit, (4096, resource.getrlimit(limit)[1]))\n"
    program += "atexit.register(lambda: print('core', resource.getrlimit(limit)[0]))\n"
    program += "sys.argv = ['firstread', '--help']\nfrom flows.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("core 0\n")


@pytest.mark.parametrize(
    ("text", "mode_of_file", "well"),
    [
        ('[serve]\ntoken = "abcdefghijklmnop"\n', 0o644, False),
        ('[serve]\ntoken = "abcdefghijklmnop"\n', 0o600, True),
        ('[database]\nurl = "postgresql://drafts:word@db/x"\n', 0o640, False),
        ('[archives.main]\nkind = "folder"\npath = "/data"\n', 0o644, True),
        ('[serve]\ntoken = ""\n', 0o644, True),
    ],
)
def test_doctor_tells_of_a_file_with_a_secret(
    tmp_path: Path, text: str, mode_of_file: int, *, well: bool
) -> None:
    path = tmp_path / "firstread.toml"
    path.write_text(text)
    path.chmod(mode_of_file)
    if well:
        assert doctor._file(path)
    else:
        with pytest.raises(FirstreadError, match="chmod 600"):
            doctor._file(path)


def test_settings_reach_no_program_that_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRSTREAD_SERVE__TOKEN", "a-secret-of-the-site")
    monkeypatch.setenv("A_SECRET_OF_ANOTHER", "another")
    assert "FIRSTREAD_SERVE__TOKEN" not in configuration.environment()
    with EmbeddedPostgres.ensure(tmp_path, {"fsync": "off"}) as server:
        pid = int((server.cluster / "postmaster.pid").read_text().splitlines()[0])
        given = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PATH=" in given
    assert b"SECRET" not in given.upper().replace(b"SUPERUSER", b"")
    assert b"FIRSTREAD_" not in given


def test_a_killed_doctor_leaves_no_film_once_another_command_came(tmp_path: Path) -> None:
    """The folder it works in is held by a lock that dies with it."""
    held = (
        "import sys, time; from pathlib import Path; from flows.environment.work_folder import work_folder\n"
    )
    held += "with work_folder(Path(sys.argv[1])) as at: (at / 'study').mkdir(); print(at, flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        assert (left / "study").exists()
        process.kill()
    (tmp_path / "films").mkdir()
    config = write_site(tmp_path, "", {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    (tmp_path / "data" / "work").parent.mkdir(exist_ok=True)
    (tmp_path / "work").rename(tmp_path / "data" / "work")
    done = firstread("run", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "data" / "work").glob("run-*"))
