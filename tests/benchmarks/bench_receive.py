"""Receiving: ``firstread listen`` of this checkout beside another one's, in one run.

    python tests/benchmarks/bench_receive.py [--other FOLDER] [--instances 3000] [--senders 8] [--blocks 2]

dcmtk's storescu sends, each sender a process with one association and files of its own; every instance of about 12 kB
is durable with its row before it is acknowledged. Each side has a fresh embedded Postgres that waits for the disk.
Blocks of both sides alternate. Printed: instances per second, and the resident memory of the listener while it waits,
after the storm, and once it has handed the studies over (it knows the recipe then, and has drafted nothing).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers import LOOPBACK, free_port, program
from tests.synthetic import chest_pixels, radiograph_header, write_chest

ROOT = Path(__file__).parents[2]
IN_ONE_STUDY = 20


@dataclass(frozen=True, slots=True)
class Block:
    """One storm: instances per second, the listener's CPU for each, and its resident MB at three moments."""

    rate: float
    cpu_ms: float
    waiting_mb: int
    after_mb: int
    handed_over_mb: int


def write_films(folder: Path, instances: int, senders: int) -> None:
    """A folder of films for each sender."""
    pixels = chest_pixels(76, 76)
    for number in range(instances):
        mine = folder / str(number % senders)
        mine.mkdir(parents=True, exist_ok=True)
        header = radiograph_header(f"receive-{number // IN_ONE_STUDY}", instance=number % IN_ONE_STUDY + 1)
        write_chest(mine / f"{number}.dcm", header, pixels=pixels)


def resident_mb(process: int) -> int:
    """What a process holds."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) // 1024


def cpu_seconds(process: int) -> float:
    """CPU seconds that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def await_line(log: Path, text: str, process: "subprocess.Popen[bytes]", seconds: float = 180.0) -> None:
    """Wait until the listener has said ``text``."""
    deadline = time.monotonic() + seconds
    while text not in log.read_text(encoding="utf-8", errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the listener did not say {text!r}:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def block(checkout: Path, films: Path, *, hand_over: bool) -> Block:
    """One storm against a fresh listener of ``checkout``."""
    senders = sorted(films.iterdir())
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)  # the embedded Postgres of root runs as another account
        (folder / "empty").mkdir()
        config = folder / "firstread.toml"
        config.write_text(
            f'data_dir = "{folder}/data"\n[archives.main]\nkind = "folder"\npath = "{folder}/empty"\n'
            f"[listen]\nport = {port}\nquiet_seconds = 2.0\nmin_free_gib = 0.1\n"
            '[prefect]\napi_url = "http://127.0.0.1:9/api"\n'
        )
        log = folder / "listen.log"
        command = [str(checkout / ".venv/bin/firstread"), "listen", "--verbose", "--config", str(config)]
        with log.open("wb") as sink:
            listener = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=folder)
        try:
            await_line(log, "listening as", listener)
            time.sleep(2)
            waiting = resident_mb(listener.pid)
            begun, spent = time.monotonic(), cpu_seconds(listener.pid)
            sending = [
                subprocess.Popen(
                    [program("storescu"), "-xe", "-aec", "FIRSTREAD", "+sd", LOOPBACK, str(port), str(one)],
                    env={**os.environ, "TCP_NODELAY": "1"},
                )
                for one in senders
            ]
            codes = [one.wait() for one in sending]
            if any(codes):
                raise SystemExit("a sender was refused")
            seconds, spent = time.monotonic() - begun, cpu_seconds(listener.pid) - spent
            after, count = resident_mb(listener.pid), sum(1 for _ in films.rglob("*.dcm"))
            held = sum(1 for _ in (folder / "data" / "inbox").rglob("*.dcm"))
            if held != count:
                raise SystemExit(f"{held} of {count} instances are in the inbox")
            if hand_over:
                await_line(log, "ledger row", listener)
                time.sleep(3)
            return Block(count / seconds, 1000 * spent / count, waiting, after, resident_mb(listener.pid))
        finally:
            listener.terminate()
            listener.wait(60)


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, help="another checkout, with its .venv")
    parser.add_argument("--instances", type=int, default=3000)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rate-only", action="store_true", help="do not wait for the model to be opened")
    asked = parser.parse_args()
    sides = {"ours": ROOT} | ({"other": asked.other.resolve()} if asked.other else {})
    found: dict[str, list[Block]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        write_films(Path(name), asked.instances, asked.senders)
        for _ in range(asked.blocks):
            for side, checkout in sides.items():
                found[side].append(block(checkout, Path(name), hand_over=not asked.rate_only))
                print(side, found[side][-1], flush=True)
    for side, blocks in found.items():
        rate = statistics.median(one.rate for one in blocks)
        handed = statistics.median(one.handed_over_mb for one in blocks)
        print(f"{side}: {rate:.0f} instances/s, {handed:.0f} MB once the recipe is known")
    if asked.other:
        ratios = [ours.rate / other.rate for ours, other in zip(found["ours"], found["other"], strict=True)]
        memory = [
            ours.handed_over_mb / other.handed_over_mb
            for ours, other in zip(found["ours"], found["other"], strict=True)
        ]
        print(
            f"rate: {statistics.median(ratios):.2f} (bar 1.5); memory: {statistics.median(memory):.2f} (bar 0.6)"
        )


if __name__ == "__main__":
    main()
