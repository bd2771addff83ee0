"""nginx as the TLS proxy of a site, on loopback, with a certificate of its own authority."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/tls.pem;
    ssl_certificate_key {folder}/tls.key;
    location / {{
      proxy_pass http://{upstream};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class TlsProxy:
    """A running proxy: its address without a slash at the end, its certificate, and what it was asked."""

    url: str
    certificate: Path
    access_log: Path


def installed() -> bool:
    """Whether nginx and openssl are there."""
    return shutil.which("nginx") is not None and shutil.which("openssl") is not None


@contextmanager
def tls_proxy(folder: Path, port: int, upstream: str) -> Iterator[TlsProxy]:
    """nginx on https://localhost:``port``, before the plain server at ``upstream``."""
    certificate = folder / "tls.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "tls.key", "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    written = folder / "nginx.conf"
    written.write_text(CONFIGURATION.format(folder=folder, port=port, upstream=urlsplit(upstream).netloc))
    process = subprocess.Popen(
        ["nginx", "-p", folder, "-c", written], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    proxy = TlsProxy(f"https://localhost:{port}", certificate, folder / "access.log")
    try:
        _wait(proxy)
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(proxy: TlsProxy) -> None:
    context = ssl.create_default_context(cafile=proxy.certificate)
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"{proxy.url}/health", verify=context)
        except httpx.TransportError:
            assert time.monotonic() < deadline, "nginx does not answer"
            time.sleep(0.05)
        else:
            return
