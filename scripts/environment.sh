#!/bin/sh
# Make the virtual environment $1 and install the lock $2 into it, exactly as locked.
set -eu
venv=$1
lock=$2
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "firstread needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2
  exit 2
}
if [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv "$venv" || {
    echo "no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 2
  }
fi
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# uv is several times as fast as pip, but reads none of its settings: it is told the index and folders that pip has.
# Compiled here as pip does: a package that Python warns of while compiling it would fail the tests that import it first.
uv() {
  [ -x "$venv/bin/uv" ] || pip install --no-deps "$(grep '^uv==' requirements-dev.lock)"
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
  UV_FIND_LINKS="${PIP_FIND_LINKS:-}" "$venv/bin/uv" --quiet --native-tls pip install --compile-bytecode \
    --python "$venv/bin/python" ${index:+--default-index "$index"} "$@"
}
# --no-deps: the lock is complete, and prefect asks for a certifi newer than any that is published (docs/decisions/0002).
uv --no-deps -r "$lock" 2>/dev/null || pip install --no-deps -r "$lock"
pip install --no-deps --no-build-isolation -e .
# Where the index serves only the CUDA build of torch, its libraries are separate packages.
"$venv/bin/python" -c 'import torch' 2>/dev/null ||
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' requirements.lock)"
