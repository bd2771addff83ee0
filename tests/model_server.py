"""A real OpenAI-compatible server for tests: `transformers serve` on tiny random models, one for the session."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers import LOOPBACK, ending, free_port


@pytest.fixture(scope="session")
def served_text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_text import write_text_model  # torch takes seconds, and most tests ask no server

    return write_text_model(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def served_image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_served import write_llava

    return write_llava(tmp_path_factory.mktemp("llava"))


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """`transformers serve` on a free port, offline, ended by its own process id."""
    port, log = free_port(), folder / "serve.log"
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=output, stderr=output, env=surroundings
        )
        with ending(server, 10):
            _wait(f"http://{LOOPBACK}:{port}/health", server, log)
            yield f"http://{LOOPBACK}:{port}"


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with transformers_serve(tmp_path_factory.mktemp("serve")) as url:
        yield url
