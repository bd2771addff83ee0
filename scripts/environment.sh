#!/bin/sh
# Make the virtual environment $1 and install the lock $2 into it, exactly as locked.
set -eu
venv=$1
lock=$2
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || {
  echo "firstread needs Python 3.11 to 3.14; name one with: make PYTHON=/path/to/python3.11" >&2
  exit 2
}
# Looked for before: without it the module venv leaves half an environment behind.
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
  echo "this Python makes no virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 2
}
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || {
  rm -rf "$venv"
  "$python" -m venv "$venv"
}
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# Install the rows of package $1 in lock $2; the options follow. Read as a file, so that their markers count.
row() {
  grep "^$1==" "$2" > "$venv/row.txt"
  shift 2
  pip install -r "$venv/row.txt" "$@"
}
# uv is several times as fast as pip, but reads none of its settings: it is told the index and folders that pip has.
# Compiled here as pip does: a package that Python warns of while compiling it would fail the tests that import it first.
uv() {
  [ -x "$venv/bin/uv" ] || row uv requirements-dev.lock --no-deps
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
  UV_FIND_LINKS="${PIP_FIND_LINKS:-}" "$venv/bin/uv" --quiet --native-tls pip install --compile-bytecode \
    --python "$venv/bin/python" ${index:+--default-index "$index"} "$@"
}
# --no-deps: the lock is complete, and prefect asks for a certifi newer than the locked one (docs/decisions/0002).
uv --no-deps -r "$lock" 2>"$venv/uv.log" || {
  echo "uv did not install $lock ($venv/uv.log says why); pip does, which takes longer" >&2
  pip install --no-deps -r "$lock"
}
pip install --no-deps --no-build-isolation -e .
# Where the index serves only the CUDA build of torch, its libraries are separate packages.
"$venv/bin/python" -c 'import torch' 2>/dev/null || row torch requirements.lock
