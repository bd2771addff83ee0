"""What docs/reliability.md promises in seconds, measured on real processes and servers.

    python tests/benchmarks/bench_promises.py [--only stops,hearing,databases]

- stops: from SIGTERM and SIGINT to the end of `run` (while it imports, brings its database up, migrates, drafts,
  closes), `listen`, `serve` and `work`: 5 s
- hearing: a C-ECHO and a C-STORE while the listener has no further descriptor or thread, 64 idle associations, a
  stalled archive behind its look, or a recipe that is being asked for (graphs are exported): 2 s
- databases: how long a database that refuses us takes to be named: 1 s

A line for each; exit code 1 where one is missed. A busy machine misses what a quiet one keeps.
"""

import argparse
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from flows.commands.simulate import simulate
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_STORE_RQ, Command
from pipeline.archive.dimse.pdu import COMMAND, LONGEST_PDU, Associate, PresentationContext, data_pdus
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.errors import FirstreadError
from pipeline.store.connections import Connections
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from tests.chaos.programs import family
from tests.faulty_dicomweb import Faults, faulty_dicomweb
from tests.integration.test_listener import NOWHERE, echo_seconds, films, listening, send
from tests.integration.test_stopping import _await_our_first_line
from tests.servers import LOOPBACK, free_port
from tests.sites import environment, rows, until, write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest

STOP, HEAR, TELL = 5.0, 2.0, 1.0
STUDIES = 24
_PROPOSAL = Associate("FIRSTREAD", "IDLER", (PresentationContext(1, DX_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),))
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Bench:
    """One Postgres for all, a database and a folder for each measurement, and what was missed."""

    def __init__(self, folder: Path, server: EmbeddedPostgres) -> None:
        self.folder, self.server, self.missed, self._made = folder, server, 0, 0
        self.films = folder / "films"
        simulate(STUDIES, self.films, seed=3)

    def say(self, what: str, seconds: float, bar: float) -> None:
        """Print one measurement."""
        self.missed += seconds > bar
        print(f"{what:<72} {seconds:6.2f} s{'' if seconds <= bar else f'  MISSED ({bar:g} s)'}", flush=True)

    def place(self) -> Path:
        """A folder of its own."""
        self._made += 1
        made = self.folder / str(self._made)
        made.mkdir(mode=0o755)
        return made

    def database(self, *, migrated: bool = True) -> str:
        """A database of its own."""
        self._made += 1
        url = self.server.database_url_for(f"promises_{self._made}", "psycopg")
        if migrated:
            upgrade(url)
        return url

    def site(self, url: str | None, archive: Mapping[str, Any] | None = None, **tables: Any) -> Path:
        """A configuration over the films, or over ``archive``; ``url`` "" is the embedded database."""
        wanted = archive or {"kind": "folder", "path": str(self.films)}
        return write_site(self.place(), self.database() if url is None else url, {"main": wanted}, **tables)


@contextmanager
def command(config: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """``firstread WORDS`` as a process, killed at the end where it still lives."""
    with (config.parent / f"{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("firstread")), *words, "--config", str(config)],
            stdout=log, stderr=log, cwd=config.parent, env=environment(),
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ended(process: "subprocess.Popen[bytes]", number: signal.Signals) -> float:
    """Seconds from a signal to the end of the process and of all that it had started."""
    children = family(process.pid)[1:]
    begun = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    while any(
        Path(f"/proc/{pid}/maps").exists() and Path(f"/proc/{pid}/maps").read_bytes() for pid in children
    ):
        time.sleep(0.01)
    return time.monotonic() - begun


def stops(bench: Bench) -> None:
    """Every command in its phases."""
    for number in SIGNALS:
        for phase, url, reached in (
            ("imports", "", lambda config, url: True),
            ("brings its database up", "", lambda config, url: (config.parent / "data/postgres").exists()),
            ("migrates", bench.database(migrated=False), _migrates),
            ("drafts", None, lambda config, url: _reports(url) > 0),
            ("closes", None, lambda config, url: _reports(url) == STUDIES),
        ):
            config = bench.site(url, model={"generate_batch": 2 if phase == "drafts" else 16})
            address = _address(config)
            words = ["db", "upgrade"] if phase == "migrates" else ["run"]
            with command(config, *words) as process:
                _await_our_first_line(process.pid)
                _soon(lambda: reached(config, address) or process.poll() is not None)  # noqa: B023
                assert process.poll() is None, "it had ended before"
                what = f"{' '.join(words)}, {number.name}, while it {phase}"
                bench.say(what, ended(process, number), STOP)
        for word, ready in (("listen", "listening as"), ("serve", "review page"), ("work", "ready to draft")):
            more: dict[str, Any] = {"listen": {"port": free_port(), "min_free_gib": 0.0}, "prefect": NOWHERE}
            config = bench.site(None, **more)
            options = ["--port", str(free_port())] if word == "serve" else ["-v"] if word == "work" else []
            with command(config, word, *options) as process:
                log = config.parent / f"{word}.log"
                _soon(lambda: ready in log.read_text() or process.poll() is not None)  # noqa: B023
                assert process.poll() is None, log.read_text()
                bench.say(f"{word}, {number.name}", ended(process, number), STOP)


def hearing(bench: Bench) -> None:
    """A C-ECHO and a C-STORE beside what holds the listener up."""
    for name, hold in (
        ("nothing else to do", _nothing), ("64 idle associations", _idlers), ("no further descriptor", _descriptors),
        ("no further thread", _threads),
    ):  # fmt: skip
        port = free_port()
        config = bench.site(
            None, listen={"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}, prefect=NOWHERE
        )
        limits = (
            (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))) if hold is _descriptors else None
        )
        with listening(config, port, preexec_fn=limits) as process, ExitStack() as held:
            hold(process.pid, port, held)
            _answers(bench, name, port, config.parent)
        if hold is _threads:
            assert "goes on with" in (config.parent / "listen.log").read_text(), "a thread was refused"
    port, sent = free_port(), films(bench.place(), 6)
    with faulty_dicomweb(sent, Faults(stalls=True)) as pacs:
        archive = {"kind": "dicomweb", "url": pacs.url, "stall_timeout": 60.0}
        listen = {"port": port, "quiet_seconds": 0.5, "min_free_gib": 0.0}
        config = bench.site(None, archive, listen=listen, prefect=NOWHERE)
        with listening(config, port):
            for number, film in enumerate(sent):
                assert send(port, film, radiograph_header(f"listener-{number}").sop_instance_uid) == 0
            until(lambda: len(pacs.requests) > 0, "a question about a study")
            _answers(bench, "an archive that stalls", port, config.parent)
    _while_it_exports(bench)


def _while_it_exports(bench: Bench) -> None:
    port = free_port()
    listen = {"port": port, "quiet_seconds": 0.1, "min_free_gib": 0.0}
    config = bench.site(None, {"kind": "folder", "path": str(bench.place())}, listen=listen, prefect=NOWHERE)
    for path in (config.parent / "data").iterdir():  # the shared graphs
        path.unlink() if path.is_symlink() or path.is_file() else None
    with listening(config, port) as process:
        film = write_chest(
            config.parent / "first.dcm", radiograph_header("first"), pixels=chest_pixels(64, 64)
        )
        assert send(port, film, radiograph_header("first").sop_instance_uid) == 0
        until(lambda: len(family(process.pid)) > 1, "the process that is asked for the recipe")
        for turn in range(3):
            if len(family(process.pid)) > 1:
                _answers(bench, f"the recipe is asked for ({turn + 1})", port, config.parent)


def _answers(bench: Bench, what: str, port: int, folder: Path) -> None:
    header = radiograph_header(what)
    film = write_chest(folder / f"{abs(hash(what))}.dcm", header, pixels=chest_pixels(64, 64))
    bench.say(f"C-ECHO, {what}", echo_seconds(port), HEAR)
    begun = time.monotonic()
    while True:
        with suppress(FirstreadError, OSError):
            if send(port, film, header.sop_instance_uid) == 0:
                break
    bench.say(f"C-STORE, {what}", time.monotonic() - begun, HEAR)


def _nothing(pid: int, port: int, held: ExitStack) -> None:
    pass


def _idlers(pid: int, port: int, held: ExitStack) -> None:
    for _ in range(64):
        with suppress(FirstreadError):
            held.enter_context(
                Association.request((LOOPBACK, port), _PROPOSAL, connect_timeout=5, stall_timeout=9)
            )


def _descriptors(pid: int, port: int, held: ExitStack) -> None:
    for _ in range(300):
        with suppress(OSError):
            held.enter_context(socket.create_connection((LOOPBACK, port), timeout=1))


def _threads(pid: int, port: int, held: ExitStack) -> None:
    """No room for the stack of a further thread: what the kernel then refuses is its making."""
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size + (6 << 20), resource.RLIM_INFINITY))
    for number in range(8):  # more than there are threads at the start, each in the middle of a message
        with suppress(FirstreadError):
            half = held.enter_context(
                Association.request((LOOPBACK, port), _PROPOSAL, connect_timeout=5, stall_timeout=9)
            )
            request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, f"1.2.3.{number}", has_data_set=True)
            half._send_all(data_pdus(1, request.encode(), COMMAND, LONGEST_PDU))
    time.sleep(1.0)


def databases(bench: Bench) -> None:
    """From the first attempt to the error with its name."""
    url = bench.database()
    port = url.rpartition(":")[2].partition("/")[0]
    read_only = bench.database()
    with Connections(read_only) as connections:
        name = read_only.rpartition("/")[2]
        setting = f"RESET ROLE; ALTER DATABASE {name} SET default_transaction_read_only TO on"
        connections.run(lambda session: session.execute(setting.encode()))
    for what, refused in (
        ("wrong password", re.sub(r"(//\w+:)", r"\1x", url)),
        ("no such database", re.sub(r"/\w+$", "/nowhere", url)),
        ("TLS wanted, none there", f"{url}?sslmode=require"),
        ("no root certificate", f"{url}?sslmode=verify-full&sslrootcert=/nonexistent/root.crt"),
        ("no such host", url.replace("@127.0.0.1", "@no.such.host.invalid")),
        ("nothing listens", re.sub(r":\d+/", ":1/", url)),
        ("takes no writes", read_only),
        ("two hosts, nothing listens", url.replace(f"@127.0.0.1:{port}", "@127.0.0.1:1,127.0.0.1:2")),
        (
            "two hosts, none takes writes",
            read_only.replace(f"@127.0.0.1:{port}", f"@127.0.0.1:{port},127.0.0.1:{port}"),
        ),
    ):
        begun, code = time.monotonic(), "none"
        with Connections(refused, patience_seconds=0.0) as connections:
            try:
                connections.run(lambda session: session.execute("SELECT 1").fetchone())
            except FirstreadError as error:
                code = error.code
        bench.say(f"{what}: {code}", time.monotonic() - begun, TELL)


def _address(config: Path) -> str:
    return str(re.findall(r'url = "(.*)"', config.read_text())[0])


def _reports(url: str) -> int:
    return int(rows(url, "SELECT count(*) FROM firstread.reports")[0][0])


def _migrates(config: Path, url: str) -> bool:
    """The schema is being made."""
    seen = rows(url, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL "
                     "AND pid <> pg_backend_pid() AND query ~* '(create|alter|grant)'")  # fmt: skip
    return bool(seen)


def _soon(true: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the phase was not reached"
        time.sleep(0.005)


def main() -> int:
    """Print each; 1 where one is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="stops,hearing,databases")
    only = parser.parse_args().only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres.ensure(folder / "server", {"fsync": "off"}) as server:
            bench = Bench(folder, server)
            for part in (stops, hearing, databases):
                if part.__name__ in only:
                    part(bench)
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
