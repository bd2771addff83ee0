"""What docs/running.md tells an operator to type, typed."""

import re
import secrets
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from flows.commands import doctor
from pipeline.errors import FirstreadError, StopRun
from pipeline.settings import Settings
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from pipeline.store.opening import open_store
from pipeline.store.store import Store
from tests.readme import ROOT
from tests.sites import environment
from tests.store_samples import claim, discover, outcome, study_uid

PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")


PROGRAMS = next(line for line in PAGE.splitlines(keepends=True) if line.startswith("export PATH="))


def blocks(language: str) -> list[str]:
    """The page's blocks in ``language``, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def script(first_line: str) -> str:
    """The sh block that begins with ``first_line``."""
    (found,) = [one for one in blocks("sh") if one.startswith(first_line)]
    return found


def typed(text: str, folder: Path) -> str:
    """Run a block in a shell where ``firstread`` and the environment's .venv are found; its output."""
    programs = Path(sys.executable).parent
    (folder / ".venv").symlink_to(programs.parent)
    done = subprocess.run(
        ["bash", "-eu", "-c", text],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(PATH=f"{programs}:/usr/bin:/bin"),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_backup_is_restored_on_another_server(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    backup, restore = script("# backup\n"), script("# restore\n")
    with open_store(Settings(data_dir=old / "firstread-data")) as store:
        discover(store, 2)
        store.save(outcome(claim(store)[0]))
        typed(backup, old)
    for name in ("roles.sql", "firstread.dump"):
        (old / name).rename(new / name)
    assert "PASSWORD" not in (new / "roles.sql").read_text(encoding="utf-8")
    variables = "".join(line + "\n" for line in backup.splitlines() if line.startswith("export "))
    with EmbeddedPostgres.ensure(new / "firstread-data") as server:
        said = typed(variables + restore, new)
        assert "the audit chain holds" in said
        with psycopg.connect(server.admin_conninfo("firstread")) as connection:
            states = connection.execute("SELECT state::text FROM firstread.ledger ORDER BY 1").fetchall()
        assert states == [("reported",), ("retrieving",)]
        with Store(server.url) as store:
            discover(store, 3)
            (third,) = [one for one in claim(store) if one.study_instance_uid == study_uid(2)]
            store.save(outcome(third))
            assert store.audit_verify(content=True).ok, "it drafts on, and the chains go on"


def test_a_site_makes_its_own_postgres_ready(tmp_path: Path) -> None:
    (tmp_path / "sql").symlink_to(ROOT / "sql")
    password = secrets.token_hex(8)
    with EmbeddedPostgres(tmp_path / "server", {"fsync": "off"}) as server:
        with psycopg.connect(server.admin_conninfo(), autocommit=True) as administrator:
            administrator.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        known = psycopg.conninfo.conninfo_to_dict(server.admin_conninfo())
        variables = "".join(
            f"export {name}={known[key]}\n"
            for name, key in {
                "PGHOST": "host",
                "PGPORT": "port",
                "PGUSER": "user",
                "PGPASSWORD": "password",
            }.items()
        )
        once = script("# once, by an administrator\n").replace("change-me", password)
        # The embedded server has made a database of the page's name already.
        typed(variables + PROGRAMS + re.sub(r"(DATABASE|roles\.sql) firstread", r"\1 site", once), tmp_path)
        address = f"{known['host']}:{known['port']}/site"
        with pytest.raises(StopRun) as refused:
            upgrade(f"postgresql+psycopg://stranger:stranger@{address}")
        assert refused.value.code == "schema-rights"
        assert "docs/running.md#the-sites-own-postgres" in refused.value.message
        with pytest.raises(StopRun):
            upgrade(f"postgresql+psycopg://drafts:{password}@{address}")
        assert upgrade(f"postgresql+psycopg://drafts_upgrade:{password}-three@{address}")
        database = {
            "url": f"postgresql+psycopg://drafts:{password}@{address}",
            "serve_url": f"postgresql+psycopg://drafts_serve:{password}-too@{address}",
        }
        assert "no more" in doctor._logins(Settings.model_validate({"database": database}))
        one = {"url": f"postgresql+psycopg://drafts_upgrade:{password}-three@{address}"}
        with pytest.raises(FirstreadError, match="may own and change the tables"):
            doctor._logins(Settings.model_validate({"database": one}))
