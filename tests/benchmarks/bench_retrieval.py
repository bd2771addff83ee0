"""Retrieval against Orthanc: ours beside the obvious way, in one run.

    python tests/benchmarks/bench_retrieval.py [--studies 30] [--blocks 3] [--work FOLDER]

WADO-RS: ``dicomweb-client`` ``retrieve_study`` plus ``save_as``. C-MOVE: a pynetdicom Storage SCP with TCP_NODELAY that
decodes each data set and saves it. Every study holds two films of several MB. Blocks of both sides alternate; the
medians' ratios are printed, with the client's own CPU seconds per GB (the server runs on the same cores).
"""

import argparse
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove,
)

from pipeline.archive.opening import open_archive
from pipeline.setting_archives import ArchiveSettings, DicomwebArchive, DimseArchive
from tests.servers import CALLING, LOOPBACK, Peer, free_port, orthanc, store_over_rest
from tests.synthetic import radiograph_header, write_chest

GIB = 1 << 30
SIZES = ((2000, 1760), (1760, 1760), (1400, 1200), (2400, 2000))


@dataclass(frozen=True, slots=True)
class Timing:
    """MB per second of wall time, and client CPU seconds per GB."""

    rate: float
    cpu: float


def measured(bytes_in_block: int, work: Callable[[], None]) -> Timing:
    """Run one block."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, spent = time.perf_counter() - wall, time.process_time() - cpu
    return Timing(bytes_in_block / 1e6 / seconds, spent / (bytes_in_block / 1e9))


def fill(peer: Peer, folder: Path, studies: int) -> tuple[list[str], int]:
    """Put studies into the peer; gives their UIDs and the bytes of all."""
    noise = np.random.default_rng(7).integers(0, 4096, (2400, 2000), dtype=np.uint16)
    uids, total = [], 0
    for number in range(studies):
        for instance in (1, 2):
            rows, columns = SIZES[(2 * number + instance) % len(SIZES)]
            header = radiograph_header(f"bench-{number}", instance=instance)
            path = write_chest(folder / "film.dcm", header, pixels=noise[:rows, :columns])
            store_over_rest(peer, path)
            total += path.stat().st_size
        uids.append(header.study_instance_uid)
    return uids, total


def fetch_all(settings: ArchiveSettings, uids: list[str], folder: Path) -> None:
    """Ours, one study after the other; every study must be complete."""
    with open_archive("bench", settings) as archive:
        for uid in uids:
            assert archive.fetch(uid, folder / uid).complete


def fetch_two_at_a_time(settings: ArchiveSettings, uids: list[str], folder: Path) -> None:
    """Ours at the default ``concurrency``, as the flows do it."""
    with open_archive("bench", settings) as archive, ThreadPoolExecutor(settings.concurrency) as pool:
        folders = [folder / uid for uid in uids]
        assert all(fetched.complete for fetched in pool.map(archive.fetch, uids, folders))


def obvious_wado(url: str, uids: list[str], folder: Path) -> None:
    """dicomweb-client as its documentation shows it."""
    client = DICOMwebClient(url)
    for uid in uids:
        for dataset in client.retrieve_study(uid):
            dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm")


def obvious_move(peer: Peer, port: int, uids: list[str], folder: Path) -> None:
    """pynetdicom as its documentation shows it, with TCP_NODELAY on both sides."""
    kept = 0

    def keep(event: evt.Event) -> int:
        nonlocal kept
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        kept += 1
        return 0

    scp = AE(ae_title=CALLING)
    scp.supported_contexts = AllStoragePresentationContexts
    server = scp.start_server(
        (LOOPBACK, port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, keep), (evt.EVT_CONN_OPEN, without_delay)],
    )
    scu = AE(ae_title=CALLING)
    scu.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    no_delay: list[Any] = [(evt.EVT_CONN_OPEN, without_delay)]
    association = scu.associate(LOOPBACK, peer.port, ae_title=peer.ae_title, evt_handlers=no_delay)
    for uid in uids:
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", uid
        for status, _ in association.send_c_move(
            identifier, CALLING, StudyRootQueryRetrieveInformationModelMove
        ):
            assert status.Status in (0xFF00, 0x0000), hex(status.Status)
    association.release()
    assert server is not None
    server.shutdown()
    assert kept == 2 * len(uids)


def without_delay(event: evt.Event) -> None:
    """Turn Nagle's algorithm off, which the obvious script would not."""
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(6, 1, 1)


def main() -> None:
    """Measure both pairs and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument(
        "--work", type=Path, default=None, help="where to write (default: a temporary folder)"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pynetdicom").setLevel(logging.ERROR)
    _config.LOG_HANDLER_LEVEL = "none"
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        root, port = Path(name), free_port()
        with orthanc(root / "orthanc", move_port=port) as peer:
            uids, total = fill(peer, root, options.studies)
            web = DicomwebArchive(kind="dicomweb", url=peer.dicomweb)
            move = DimseArchive(
                kind="dimse", host=LOOPBACK, port=peer.port, ae_title=peer.ae_title, move_port=port
            )
            get = move.model_copy(update={"retrieve": "get"})
            ways: dict[str, Callable[[Path], None]] = {
                "dicomweb-client retrieve_study + save_as": lambda out: obvious_wado(
                    peer.dicomweb, uids, out
                ),
                "firstread WADO-RS": lambda out: fetch_all(web, uids, out),
                "firstread WADO-RS, 2 studies at a time": lambda out: fetch_two_at_a_time(web, uids, out),
                "pynetdicom C-MOVE, decode + save_as": lambda out: obvious_move(peer, port, uids, out),
                "firstread C-MOVE": lambda out: fetch_all(move, uids, out),
                "firstread C-GET": lambda out: fetch_all(get, uids, out),
            }
            report(ways, total, options.blocks, root / "out")


def report(ways: dict[str, Callable[[Path], None]], total: int, blocks: int, out: Path) -> None:
    """Run the blocks in turn and print a table, then the bars, then JSON."""
    timings: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(blocks + 1):  # the first round warms the page cache
        for name, work in ways.items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            timings[name].append(measured(total, partial(work, out)))
    medians = {
        name: Timing(statistics.median(t.rate for t in some[1:]), statistics.median(t.cpu for t in some[1:]))
        for name, some in timings.items()
    }
    print(f"{total / 1e6:.0f} MB per block, {blocks} blocks, medians")
    for name, timing in medians.items():
        print(f"{name:45s} {timing.rate:7.0f} MB/s {timing.cpu:6.2f} client CPU s/GB")
    web, ours, paired, scp, move, _ = medians.values()
    bars = {
        "wado_rate": (ours.rate / web.rate, ">= 2.5"),
        "wado_rate_default_concurrency": (paired.rate / web.rate, ">= 2.5"),
        "wado_cpu": (ours.cpu / web.cpu, "<= 0.5"),
        "move_rate": (move.rate / scp.rate, ">= 1.3"),
    }
    for name, (ratio, bar) in bars.items():
        print(f"{name}: {ratio:.2f} (bar {bar})")
    print(json.dumps({name: round(ratio, 3) for name, (ratio, _) in bars.items()}))


if __name__ == "__main__":
    main()
