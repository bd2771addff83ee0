"""What a process of its own costs firstread-mini: the same films drafted there and here, in turn, in one run.

    python -m tests.benchmarks.bench_model_process [--batch 16] [--rounds 9] [--side 1024]

The other process opens the model once and is reused. Pixels are handed over in memory that both share (pickle protocol
5, buffers out of band, so they are copied once into it and never again), drafts come back pickled. Printed: the
processor time of both processes and the seconds for each film, medians over rounds in which the sides take turns, and
what the second process holds. Every draft is compared. The bar is 5 % (docs/decisions/0035-models-in-the-run.md).
"""

import argparse
import multiprocessing
import pickle
import statistics
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from models.drafter import Drafter, open_drafter
from models.model_choice import ModelChoice
from models.simulation.film import MAX_VALUE, render
from pipeline.errors import FirstreadError
from pipeline.report import DraftReport
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.benchmarks.bench_receive import cpu_seconds, resident_mb
from tests.engines import ENGINES

Drafts = list[DraftReport | FirstreadError]


def studies(count: int, side: int) -> list[ImageSet]:
    """Simulated films."""
    made = []
    for number in range(count):
        ref = InstanceRef(f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
        pixels = (render(number, size=side).pixels / MAX_VALUE).astype(np.float32)
        image = StudyImage(ref, 0, pixels, side, side, None, "DX", "CHEST", "PA", "MONOCHROME2")
        made.append(ImageSet(ref.study_instance_uid, (image,)))
    return made


def opened() -> Drafter:
    """One thread, so that the figures do not depend on what else the machine does."""
    return open_drafter(ModelChoice("firstread-mini", threads=1), cache_dir=ENGINES)


def work(orders: Connection, memory: str) -> None:
    """The other process: drafts what it is told of until it is told nothing."""
    shared = SharedMemory(memory)
    assert shared.buf is not None
    with opened() as drafter:
        orders.send(None)
        while (told := orders.recv()) is not None:
            pickled, places = told
            given: list[ImageSet] = pickle.loads(
                pickled, buffers=[shared.buf[start:end] for start, end in places]
            )
            orders.send(drafter.write(drafter.encode(given)))
            del given
    shared.close()


def drafted_apart(orders: Connection, shared: SharedMemory, batch: list[ImageSet]) -> Drafts:
    """One batch through the other process."""
    assert shared.buf is not None
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
    places, at = [], 0
    for one in buffers:
        raw = one.raw()
        shared.buf[at : at + raw.nbytes] = raw
        places.append((at, at + raw.nbytes))
        at += raw.nbytes
    orders.send((pickled, places))
    drafts: Drafts = orders.recv()
    return drafts


def compared(drafts: Drafts) -> list[object]:
    """Drafts without the times at which they were written."""
    return [
        replace(one, provenance=replace(one.provenance, started=None, finished=None))  # type: ignore[arg-type]
        if isinstance(one, DraftReport)
        else str(one)
        for one in drafts
    ]


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", type=int, default=1024, help="pixels along a film's side")
    asked = parser.parse_args()
    batch = studies(asked.batch, asked.side)
    size = sum(one.images[0].pixels.nbytes for one in batch)
    shared = SharedMemory(create=True, size=size)
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, shared.name))
    process.start()
    assert process.pid is not None
    orders.recv()
    found: dict[str, list[tuple[float, float]]] = {"here": [], "apart": []}
    with opened() as drafter:
        for number in range(asked.rounds + 1):
            sides = {}
            for side in found:
                spent, begun = time.process_time() + cpu_seconds(process.pid), time.perf_counter()
                if side == "here":
                    sides[side] = drafter.write(drafter.encode(batch))
                else:
                    sides[side] = drafted_apart(orders, shared, batch)
                if number:
                    seconds = time.perf_counter() - begun
                    spent = time.process_time() + cpu_seconds(process.pid) - spent
                    found[side].append((1000 * spent / asked.batch, 1000 * seconds / asked.batch))
            assert compared(sides["here"]) == compared(sides["apart"])
    print(f"{asked.batch} films of {asked.side} x {asked.side} at once; {size >> 20} MB of pixels")
    median = {
        side: [statistics.median(row[column] for row in rows) for column in (0, 1)]
        for side, rows in found.items()
    }
    for side, (spent, wall) in median.items():
        print(f"{side:6} {spent:8.2f} ms of processor time a film, {wall:8.2f} ms")
    for column, what in enumerate(("processor time", "time")):
        print(f"{what}: {100 * (median['apart'][column] / median['here'][column] - 1):+.1f} % (bar 5)")
    print(f"the second process holds {resident_mb(process.pid)} MB")
    orders.send(None)
    process.join()
    shared.close()
    shared.unlink()


if __name__ == "__main__":
    main()
