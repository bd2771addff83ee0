"""Programs that we start beside us: a port for them to listen on, and their end."""

import re
import socket
import subprocess
from collections.abc import Mapping

STOP_SECONDS = 15.0
_BARE = re.compile(r"PATH|TZ|TZDIR|LANG|LC_[A-Z]+|LD_LIBRARY_PATH|PYTHON[A-Z]+|TMPDIR|HOME|USER|LOGNAME")


def bare(environment: Mapping[str, str]) -> dict[str, str]:
    """What another program is given of ``environment``: where things are, and the language; no secret of any kind."""
    return {name: value for name, value in environment.items() if _BARE.fullmatch(name)}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the program to end (SIGTERM) and wait; kill it where it does not within ``STOP_SECONDS``."""
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
