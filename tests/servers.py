"""Real DICOM peers on loopback for tests: Orthanc, dcmqrscp, storescp, pynetdicom's qrscp, each on free
ports.

Every peer is a context manager that ends the process it started, by its own process id.
"""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info

LOOPBACK = "127.0.0.1"
CALLING = "FIRSTREAD"


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer: AE title, DICOM port, DICOMweb root and Orthanc REST root ("" where it has none)."""

    ae_title: str
    port: int
    dicomweb: str = ""
    rest: str = ""
    process_id: int = 0


# Below the ports that Linux gives to connections and to whoever asks for any port (ip_local_port_range): one of those
# may be somebody's again before the server that a test starts has bound it.
_PORTS = range(11_000, 32_000)
_next_port = itertools.count(os.getpid() * 1009)  # the workers of a session begin far from each other


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now, another one at each call."""
    for number in itertools.islice(_next_port, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port
    raise AssertionError(f"no port of {_PORTS.start} to {_PORTS.stop} is free")


def program(name: str) -> str:
    """The path of a peer's program. A missing one skips the test, and fails it under CI=true."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin")
    if found is None:
        message = f"{name} is not installed: apt-get install orthanc orthanc-dicomweb dcmtk"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def orthanc(folder: Path, *, move_port: int = 0, **options: object) -> Iterator[Peer]:
    """Orthanc with its DICOMweb plugin; it may move to FIRSTREAD at ``move_port``."""
    folder.mkdir(parents=True, exist_ok=True)
    binary, http, dicom = program("Orthanc"), free_port(), free_port()
    allow = {f"Allow{what}": True for what in ("Echo", "Find", "Move", "Get", "Store")}
    destination = {"AET": CALLING, "Host": LOOPBACK, "Port": move_port or free_port(), **allow}
    configuration = {
        "Name": "test-peer",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": False,
        "UnknownSopClassAccepted": True,
        "SynchronousCMove": True,
        "MaximumPduLength": 131072,
        "StableAge": 1,
        "LimitFindResults": 0,
        "DicomModalities": {"pipeline": destination},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Ssl": False, "Host": f"{LOOPBACK}:{http}"},
        **options,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    rest = f"http://{LOOPBACK}:{http}"
    with _running([binary, str(path)], folder / "orthanc.log") as process_id:
        _until(lambda: answers(f"{rest}/system"), "Orthanc")
        yield Peer("ORTHANC", dicom, f"{rest}/dicom-web", rest, process_id)


def store_over_rest(peer: Peer, *files: Path) -> None:
    """Put files into Orthanc through its REST."""
    for file in files:
        request = urllib.request.Request(f"{peer.rest}/instances", data=file.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()


@contextmanager
def dcmqrscp(folder: Path, *, move_port: int) -> Iterator[Peer]:
    """dcmtk's query/retrieve SCP, AE title DCMQRSCP; it may move to FIRSTREAD at ``move_port``."""
    binary, port = program("dcmqrscp"), free_port()
    store = folder / "store"
    store.mkdir(parents=True)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        'NetworkType = "tcp"\n'
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nfirstread = ({CALLING}, {LOOPBACK}, {move_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMQRSCP {store} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="ascii",
    )
    with _running([binary, "-c", str(configuration)], folder / "dcmqrscp.log") as process_id:
        _until(lambda: listens(port), "dcmqrscp")
        yield Peer("DCMQRSCP", port, process_id=process_id)


@contextmanager
def qrscp(folder: Path, *, move_port: int) -> Iterator[Peer]:
    """The Query/Retrieve application of pynetdicom, AE title QRSCP.

    It may move to FIRSTREAD at ``move_port``.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "qrscp.ini"
    configuration.write_text(
        f"[DEFAULT]\nae_title: QRSCP\nport: {port}\nmax_pdu: 131072\nacse_timeout: 30\ndimse_timeout: 30\n"
        f"network_timeout: 30\nbind_address: {LOOPBACK}\ninstance_location: {folder / 'instances'}\n"
        f"database_location: {folder / 'instances.sqlite'}\n\n"
        f"[{CALLING}]\nae_title: {CALLING}\naddress: {LOOPBACK}\nport: {move_port}\n",
        encoding="ascii",
    )
    (folder / "instances").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "-c", str(configuration)]
    with _running(command, folder / "qrscp.log") as process_id:
        _until(lambda: listens(port), "qrscp", seconds=60)
        yield Peer("QRSCP", port, process_id=process_id)


@contextmanager
def storescp(folder: Path, *, ae_title: str = "STORESCP") -> Iterator[Peer]:
    """dcmtk's storage SCP, keeping what it receives bit for bit in ``folder``."""
    binary, port = program("storescp"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with _running(
        [binary, "-aet", ae_title, "+B", "-od", str(folder), str(port)], folder / "storescp.log"
    ) as process_id:
        _until(lambda: listens(port), "storescp")
        yield Peer(ae_title, port, process_id=process_id)


def store(peer: Peer, *files: Path, calling: str = CALLING) -> None:
    """C-STORE files in their own transfer syntax with dcmtk's storescu."""
    by_option: dict[str, list[str]] = {}
    for file in files:
        by_option.setdefault(PROPOSALS[str(read_file_meta_info(file).TransferSyntaxUID)], []).append(
            str(file)
        )
    command = [program("storescu"), "-aet", calling, "-aec", peer.ae_title]
    for option, some in by_option.items():
        whole = [*command, option, LOOPBACK, str(peer.port), *some]
        subprocess.run(whole, check=True, capture_output=True, timeout=120, env=_environment())


PROPOSALS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.5": "-xr",
}
"""The option of storescu that proposes a transfer syntax."""


@contextmanager
def ending(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """End the process when the context ends; kill it where that takes longer than ``seconds``."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[int]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
        with ending(process, 15):
            yield process.pid


def _environment() -> dict[str, str]:
    return {**os.environ, "TCP_NODELAY": "1"}


def _until(ready: Callable[[], bool], name: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"{name} did not start within {seconds:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody takes connections at this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def answers(url: str) -> bool:
    """Whether ``url`` is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
