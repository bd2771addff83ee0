"""What peers can hold open or make large: the real ``firstread listen`` and ``serve``, and one long text.

    python -m tests.benchmarks.bench_doors [--other FOLDER] [--peers 20] [--silent 400]

Printed for this checkout, and for another one with its ``.venv`` beside it: how much the resident memory of the
listener grows at most while some peers promise PDUs of 16 MiB, and others the largest that is taken and send all of it
but one byte (bar: 8 MB); how long /health and a search take beside connections that say nothing (bar: 0.2 s each, the
slowest of ten); for this checkout, how long it takes to free 1 MiB of text of identifiers (bar: 50 ms).
"""

import argparse
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path

import httpx

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.errors import FirstreadError
from pipeline.identifier_removal import without_identifiers
from pipeline.study_context import PatientIdentity, StudyContext
from tests.benchmarks.bench_receive import ROOT, await_line, resident_mb
from tests.servers import LOOPBACK, ending, free_port

PROMISED = 16 << 20
HELD_SECONDS = 3.0
ASKED = (("/health", 204), ("/fhir/DiagnosticReport?_count=1", 200))
TIMES = 10
CONTEXT = StudyContext(
    study_instance_uid="1.2.840.99.1.2",
    patient=PatientIdentity("TEST-0417", "INVENTED", ("Müller-Beispiel^Ada",), date(1971, 3, 14), "F"),
    accession_number="ACC 77-12",
    study_id="S-99",
    institution="Invented Hospital",
    persons=("Erfunden^Otto",),
    identifiers=("4 Example Lane 12",),
)


@contextmanager
def service(checkout: Path, name: str, said: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``firstread NAME`` of a checkout with fresh data: its process and port, once it has said that it listens."""
    with tempfile.TemporaryDirectory() as top:
        folder, port = Path(top), free_port()
        folder.chmod(0o755)  # the embedded Postgres of root runs as another account
        (folder / "empty").mkdir()
        config, log = folder / "firstread.toml", folder / "log"
        config.write_text(
            f'data_dir = "{folder}/data"\n[archives.main]\nkind = "folder"\npath = "{folder}/empty"\n'
            f"[listen]\nport = {port}\nmin_free_gib = 0.1\n[serve]\nport = {port}\n"
        )
        command = [str(checkout / ".venv/bin/firstread"), name, "--config", str(config)]
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder)
        with ending(process, 30):
            await_line(log, said, process)
            yield process, port


def growth_mb(checkout: Path, peers: int) -> int:
    """How many MB ``listen`` grows at most while ``peers`` peers promise too much, and as many all that is taken."""
    with service(checkout, "listen", "listening as") as (process, port), ExitStack() as held:
        time.sleep(3)
        before = most = resident_mb(process.pid)
        for length, sent in ((PROMISED, 0), (pdu.LONGEST_PDU, pdu.LONGEST_PDU - 1)):
            for number in range(peers):
                one = held.enter_context(_associated(port, f"PEER{number}"))
                with suppress(FirstreadError, OSError):  # it may be sent away in the middle
                    one._send_all(struct.pack(">BxI", pdu.P_DATA_TF, length) + bytes(sent))
            deadline = time.monotonic() + HELD_SECONDS
            while time.monotonic() < deadline:
                most = max(most, resident_mb(process.pid))
                time.sleep(0.05)
        return most - before


@contextmanager
def _associated(port: int, calling: str) -> Iterator[Association]:
    proposal = Associate(
        "FIRSTREAD", calling, (PresentationContext(1, DX_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),)
    )
    association = Association.request((LOOPBACK, port), proposal, connect_timeout=5, stall_timeout=5)
    try:
        yield association
    finally:
        association.abort()


def slowest(checkout: Path, silent: int) -> dict[str, float]:
    """The slowest answer of ``serve`` to each question, in seconds, beside ``silent`` connections without a word."""
    with service(checkout, "serve", "review page") as (_, port), ExitStack() as held:
        url = f"http://{LOOPBACK}:{port}"
        for path, status in ASKED:  # what is made once is not counted
            assert httpx.get(url + path).status_code == status
        for _ in range(silent):
            held.enter_context(socket.create_connection((LOOPBACK, port), timeout=20))
        time.sleep(1)
        took = {path: 0.0 for path, _ in ASKED}
        for _ in range(TIMES):
            for path, status in ASKED:
                begun = time.monotonic()
                try:
                    answered = httpx.get(url + path, timeout=20).status_code == status
                except httpx.HTTPError:
                    answered = False
                took[path] = max(took[path], time.monotonic() - begun if answered else float("inf"))
        return took


def freeing_ms() -> float:
    """Processor time, the least of five."""
    text = ("cough and fever, seen by Dr Meyer on 3 May 2026. " * 30_000)[: 1 << 20]
    took = []
    for _ in range(5):
        begun = time.process_time()
        without_identifiers(text, CONTEXT)
        took.append(1000 * (time.process_time() - begun))
    return min(took)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, help="another checkout, with its .venv")
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--silent", type=int, default=400)
    asked = parser.parse_args()
    sides = {"ours": ROOT} | ({"other": asked.other.resolve()} if asked.other else {})
    for side, checkout in sides.items():
        grown = growth_mb(checkout, asked.peers)
        print(f"{side}: listen grows by {grown} MB under {asked.peers} peers (bar 8)", flush=True)
        for path, seconds in slowest(checkout, asked.silent).items():
            print(
                f"{side}: {path} {seconds:.3f} s beside {asked.silent} silent connections (bar 0.2)",
                flush=True,
            )
    print(f"1 MiB of text is freed of identifiers in {freeing_ms():.1f} ms (bar 50)")


if __name__ == "__main__":
    main()
