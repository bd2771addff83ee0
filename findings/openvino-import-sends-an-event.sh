#!/usr/bin/env bash
# `import openvino` alone speaks to an analytics service of its makers, before anything is asked of it.
#
# Version: openvino 2026.4.1 with openvino-telemetry 2025.2.0, which its wheel requires (PyPI).
# Expected: an inference library that is imported opens no connection; at most a tool of its command line does, after a
#   question.
# Seen: without a file of consent in the home directory the import asks for www.google-analytics.com:443 and writes an
#   identifier of the user to ~/intel. Nothing is sent where openvino_telemetry cannot be imported: openvino has a stub
#   for that case. A hospital's firewall sees the connection, and a host without one sends it.
# Nothing leaves this machine: HTTPS goes through a proxy on loopback that notes what is asked for and refuses it.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 600 v/bin/pip install -q --no-compile --disable-pip-version-check openvino==2026.4.1 openvino-telemetry==2025.2.0 numpy==2.4.6
timeout 180 v/bin/python - <<'PY'
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

listener = socket.create_server(("127.0.0.1", 0))
asked = []


def refuse():
    while True:
        peer, _ = listener.accept()
        with peer:
            asked.append(peer.recv(400).split(b"\r\n")[0].decode())
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")


threading.Thread(target=refuse, daemon=True).start()
proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"


def imported(program, home):
    asked.clear()
    Path(home).mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(Path(home).resolve()), "https_proxy": proxy, "http_proxy": proxy
    }
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    time.sleep(3)
    written = sorted(one.name for one in Path(home).rglob("*") if one.is_file())
    print(f"{program!r}: asked for {asked}, wrote {written}")
    return list(asked), written


plain = imported("import openvino", "plain")
withheld = imported("import sys; sys.modules['openvino_telemetry'] = None; import openvino", "withheld")
assert plain[0] and all("www.google-analytics.com:443" in one for one in plain[0]) and plain[1], plain
assert withheld == ([], []), withheld
PY
