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
# The rows of lock $1, each with the SHA-256 of its files: an installer then takes no other file (docs/decisions/0002).
hashed() {
  awk 'NR == FNR { pin = $1; $1 = ""; gsub(/ /, " --hash=sha256:"); files[pin] = $0; next }
       !($1 in files) { print $1 " has no line in requirements.sha256: run make lock" > "/dev/stderr"; exit 1 }
       { print $0 files[$1] }' requirements.sha256 "$1"
}
# Install the rows of package $1 in lock $2; the options follow. Read as a file, so that their markers count.
row() {
  hashed "$2" > "$venv/rows.txt"
  grep "^$1==" "$venv/rows.txt" > "$venv/row.txt"
  shift 2
  pip install --require-hashes -r "$venv/row.txt" "$@"
}
# uv is several times as fast as pip, but reads none of its settings: it is told the index and folders that pip has.
# Compiled here as pip does: a package that Python warns of while compiling it would fail the tests that import it first.
uv() {
  [ -x "$venv/bin/uv" ] || row uv requirements-dev.lock --no-deps
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
  UV_FIND_LINKS="${PIP_FIND_LINKS:-}" "$venv/bin/uv" --quiet --native-tls pip install --compile-bytecode \
    --python "$venv/bin/python" ${index:+--default-index "$index"} "$@"
}
# Torch apart: the index has the build with CUDA, a folder that pip is told of may have the one without (2.13.0+cpu). pip and uv
# would take the first of the two where hashes are asked for, or none; so the file that is chosen is compared here.
torch() {
  pin=$(grep '^torch==' "$1") || return 0
  "$venv/bin/python" -c 'import sys, importlib.metadata as m; sys.exit(m.version("torch").split("+")[0] != sys.argv[1])' \
    "${pin#torch==}" 2>/dev/null && return 0
  rm -rf "$venv/torch"
  pip download --no-deps --dest "$venv/torch" "$pin"
  file=$(echo "$venv"/torch/torch-*.whl)
  digest=$(sha256sum "$file" | cut -d ' ' -f 1)
  grep '^torch==' requirements.sha256 | grep -q "$digest" || {
    echo "$(basename "$file") is none of the files of requirements.sha256; if it is one of your own, add $digest to" \
      "scripts/further-hashes.txt and run make lock" >&2
    exit 1
  }
  pip install --no-deps "$file"
  rm -rf "$venv/torch"
}
# --no-deps: the lock is complete, and prefect asks for a certifi newer than the locked one (docs/decisions/0002).
hashed "$lock" > "$venv/rows.txt"
grep -v '^torch==' "$venv/rows.txt" > "$venv/hashed.txt"
uv --no-deps --require-hashes -r "$venv/hashed.txt" 2>"$venv/uv.log" || {
  echo "uv did not install $lock ($venv/uv.log says why); pip does, which takes longer" >&2
  pip install --no-deps --require-hashes -r "$venv/hashed.txt"
}
torch "$lock"
pip install --no-deps --no-build-isolation -e .
# Where the index serves only the CUDA build of torch, its libraries are separate packages, which no lock names: torch itself
# is there by its hash, and pip adds what it asks for.
"$venv/bin/python" -c 'import torch' 2>/dev/null || pip install "$(grep '^torch==' requirements.lock)"
