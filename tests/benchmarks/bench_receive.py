"""Receiving: ``firstread listen`` of this checkout beside another one's, in one run.

    python tests/benchmarks/bench_receive.py [--other FOLDER] [--instances 3000] [--senders 8] [--blocks 2]

dcmtk's storescu sends, each sender a process with one association and files of its own; every instance of about 12 kB
is durable with its row before it is acknowledged. Each side has a fresh embedded Postgres that waits for the disk.
Blocks of both sides alternate. Printed: instances per second, the processor time of the listener, and its resident
memory while it waits, after the storm, and, in the first block, once it has handed a study over (it knows the recipe
then, and has drafted nothing). Nothing is removed before the end: ext4 passes over the inodes of files that were
deleted in the last minutes when it makes new ones, which took a third of the listener's processor time (perf).
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
HANDED_OVER_WITHIN = 900.0
"""Seconds: the first study that is handed over asks for the recipe, for which a fresh data folder exports the graphs;
on a busy machine that takes minutes."""


@dataclass(frozen=True, slots=True)
class Block:
    """One storm: instances per second, the listener's CPU for each, and its resident MB at three moments.

    ``handed_over_mb`` is 0 where nothing was waited for.
    """

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


def block(checkout: Path, films: Path, folder: Path, *, hand_over: bool) -> Block:
    """One storm against a fresh listener of ``checkout``, whose data lie in ``folder``."""
    senders = sorted(films.iterdir())
    port = free_port()
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
            await_line(log, "ledger row", listener, HANDED_OVER_WITHIN)
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
        films, top = Path(name) / "films", Path(name)
        top.chmod(0o755)  # the embedded Postgres of root runs as another account
        write_films(films, asked.instances, asked.senders)
        for number in range(asked.blocks):
            for side, checkout in sides.items():
                folder = top / f"{side}-{number}"
                folder.mkdir(mode=0o755)
                hand_over = not number and not asked.rate_only
                found[side].append(block(checkout, films, folder, hand_over=hand_over))
                print(side, found[side][-1], flush=True)
    for side, blocks in found.items():
        rate = statistics.median(one.rate for one in blocks)
        spent = statistics.median(one.cpu_ms for one in blocks)
        print(
            f"{side}: {rate:.0f} instances/s, {spent:.2f} ms of processor time each, "
            f"{blocks[0].handed_over_mb} MB once the recipe is known"
        )
    if asked.other:
        ours, other = found["ours"], found["other"]
        rates = statistics.median(one.rate / two.rate for one, two in zip(ours, other, strict=True))
        spent = statistics.median(one.cpu_ms / two.cpu_ms for one, two in zip(ours, other, strict=True))
        print(f"rate: {rates:.2f} (bar 1.5); processor time: {spent:.2f}")
        if not asked.rate_only:
            print(f"memory: {ours[0].handed_over_mb / other[0].handed_over_mb:.2f} (bar 0.6)")


if __name__ == "__main__":
    main()
