"""An unexpected error in every stage, its words an identifier: no sink of the run holds them.

The command is the real one; before it starts, one function of each stage is made to raise what a library raises when a
value does not suit it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands.simulate import simulate
from pipeline.store.embedded import EmbeddedPostgres
from tests.acceptance.test_demo import _whole_database
from tests.sites import environment, rows, write_site

PLANTED = "ZZPLANTED^JIŘÍ"
PER_STUDY = (
    "flows.path.fetch",
    "flows.path.prepare_for",
    "flows.path.gather",
    "flows.path.run_checks",
    "flows.path.build_resources",
    "flows.path.validate",
)
"""Each raises for one study of the run alone, the first that has not failed yet."""
WHOLE_RUN = (
    "flows.discover._record",
    "flows.drain._claim",
    "models.drafter.Drafter.encode",
    "models.drafter.Drafter.write",
    "pipeline.store.store.Store.save_many",
    "pipeline.store.store.Store.advance",
)
START = """
import importlib, itertools, sys
planted, once, names = sys.argv[1], sys.argv[2] == "once", sys.argv[3].split(",")
import flows.cli, flows.drain, models.drafter
for name in names:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
            break
        except ModuleNotFoundError:
            continue
    for part in parts[length:-1]:
        owner = getattr(owner, part)
    real, calls = getattr(owner, parts[-1]), itertools.count()
    def raising(*args, real=real, calls=calls, **named):
        if once and next(calls):
            return real(*args, **named)
        planted.encode("latin-1")
    setattr(owner, parts[-1], raising)
sys.argv = ["firstread", *sys.argv[4:]]
flows.cli.main()
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    simulate(len(PER_STUDY) + 2, folder, seed=5)
    return folder


@pytest.mark.parametrize(
    ("names", "once", "recorded"),
    [
        (PER_STUDY, True, True),
        *(((name,), False, name.endswith((".encode", "_claim"))) for name in WHOLE_RUN),
    ],
    ids=["studies", *(name.rpartition(".")[2] for name in WHOLE_RUN)],
)
def test_no_sink_holds_the_words_of_an_error(
    names: tuple[str, ...],
    once: bool,
    recorded: bool,
    films: Path,
    database_url: str,
    prefect_url: str,
    postgres_server: EmbeddedPostgres,
    tmp_path: Path,
) -> None:
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(films)}})
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", START, PLANTED, "once" if once else "always", ",".join(names),
         "run", "--json", "--verbose", "--config", str(config)],
        cwd=root, env=environment(prefect_url if recorded else ""), capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode in (1, 3), done.stderr
    assert done.stdout, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert ("error" in said) == (done.returncode == 3)
    if once:
        assert (said["failed"], said["reported"]) == (len(PER_STUDY), 2), done.stderr
    sinks = {
        "standard output": done.stdout,
        "standard error": done.stderr,
        "views": repr(rows(database_url, "SELECT reason FROM firstread.studies")),
    }
    if recorded:
        sinks["prefect database"] = _whole_database(postgres_server.database_url_for("prefect"))
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file() and "engines" not in path.parts:
            sinks[path.name] = path.name + path.read_bytes().decode("utf-8", "replace")
    for sink, text in sinks.items():
        assert "ZZPLANTED" not in text, f"{sink} holds it"
    assert "UnicodeEncodeError" in done.stderr, "the error was met, and is named by its class"
