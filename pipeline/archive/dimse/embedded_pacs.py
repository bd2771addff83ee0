"""The demo's PACS: the Query/Retrieve application that ships with pynetdicom, run as a process of its own.

A real DIMSE peer on loopback (C-ECHO, C-FIND, C-MOVE, C-GET, C-STORE), never meant for patients.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE

from pipeline.child_process import stop
from pipeline.errors import StopRun

AE_TITLE = "QRSCP"
START_SECONDS = 30.0
_VERIFICATION = "1.2.840.10008.1.1"


@contextmanager
def embedded_pacs(
    folder: Path, port: int, destinations: Mapping[str, int], environment: Mapping[str, str]
) -> Iterator[None]:
    """Run the PACS over ``folder`` on 127.0.0.1:``port`` for the length of the block.

    ``destinations`` maps the AE title of a C-MOVE destination to its port on loopback. Raises StopRun when it does
    not come up.
    """
    instances = folder / "instances"
    instances.mkdir(parents=True, exist_ok=True)
    configuration = folder / "qrscp.ini"
    configuration.write_text(_configuration(folder, port, destinations), encoding="ascii")
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "-q", "-c", str(configuration)]
    with (folder / "qrscp.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=dict(environment), start_new_session=True
        )
    try:
        _await_echo(port, server, folder / "qrscp.log")
        yield
    finally:
        stop(server)


def store_files(port: int, files: Sequence[Path]) -> None:
    """C-STORE ``files`` to the PACS on 127.0.0.1:``port``. Raises StopRun when one is refused."""
    ae = AE(ae_title="LOADER")
    contexts = {
        (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        for meta in map(read_file_meta_info, files)
    }
    for sop_class, transfer_syntax in sorted(contexts):
        ae.add_requested_context(sop_class, transfer_syntax)
    association = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
    if not association.is_established:
        raise StopRun("demo-pacs", "the demo's PACS refused the association that loads the sample archive")
    try:
        for path in files:
            status = association.send_c_store(path)
            if "Status" not in status or status.Status != 0x0000:
                raise StopRun("demo-pacs", f"the demo's PACS refused {path.name}")
    finally:
        association.release()


def _configuration(folder: Path, port: int, destinations: Mapping[str, int]) -> str:
    lines = [
        "[DEFAULT]",
        f"ae_title: {AE_TITLE}",
        f"port: {port}",
        "max_pdu: 131072",
        "acse_timeout: 30",
        "dimse_timeout: 30",
        "network_timeout: 30",
        "bind_address: 127.0.0.1",
        f"instance_location: {folder / 'instances'}",
        f"database_location: {folder / 'instances.sqlite'}",
        "log_identifier: False",
    ]
    for title, destination in destinations.items():
        lines += [f"[{title}]", "address: 127.0.0.1", f"port: {destination}"]
    return "\n".join(lines) + "\n"


def _await_echo(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    ae = AE(ae_title="LOADER")
    ae.add_requested_context(_VERIFICATION)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StopRun("demo-pacs", f"the demo's PACS ended at once; read {log}")
        if _listens(port):
            association = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
            if association.is_established:
                association.send_c_echo()
                association.release()
                return
        time.sleep(0.1)
    raise StopRun("demo-pacs", f"the demo's PACS did not come up in {START_SECONDS:.0f} s; read {log}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
