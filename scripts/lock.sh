#!/bin/sh
# Compile both locks from pyproject.toml, for every Python that it names and both processors. A version that is locked stays
# as long as it fits; with UPGRADE=1 each becomes the newest. Addresses and torch's build (+cpu) never enter a lock.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# uv takes the versions of the file that it writes over, where there is one.
[ -n "${UPGRADE:-}" ] || {
  cp requirements.lock "$fresh/runtime.txt"
  cat requirements.lock requirements-dev.lock > "$fresh/all.txt"
}
# fewest: one version of a package for every Python, so that what is tested on one is what runs on the others.
compile() {
  .venv/bin/uv --quiet --native-tls pip compile --universal --python-version 3.11.0 --no-python-downloads \
    --fork-strategy fewest --override scripts/overrides.txt --no-header --no-annotate pyproject.toml "$@" > "$fresh/log"
}
compile -o "$fresh/runtime.txt"
compile --extra dev --constraint "$fresh/runtime.txt" -o "$fresh/all.txt"
# setuptools stays: torch declares it, and our own editable package is built with it.
.venv/bin/python scripts/locked.py "$fresh/runtime.txt" > "$fresh/runtime.lock"
.venv/bin/python scripts/locked.py "$fresh/all.txt" > "$fresh/both.lock"
# Every row has a file that installs without a compiler, but for these two, which are plain Python.
for version in 3.11.0 3.12 3.13 3.14; do
  for processor in x86_64 aarch64; do
    .venv/bin/uv --quiet --native-tls pip compile --no-deps --no-python-downloads --python-version "$version" \
      --python-platform "$processor-manylinux_2_35" --only-binary :all: --no-binary jieba --no-binary tensorrt-rtx-cu13 \
      "$fresh/both.lock" -o "$fresh/files" > "$fresh/log"
  done
done
LC_ALL=C comm -13 "$fresh/runtime.lock" "$fresh/both.lock" > requirements-dev.lock
cp "$fresh/runtime.lock" requirements.lock
# What the index says that the files of each version are; scripts/environment.sh installs no other.
.venv/bin/uv --quiet --native-tls pip compile --universal --no-deps --python-version 3.11.0 --no-python-downloads \
  --generate-hashes --no-header --no-annotate "$fresh/both.lock" -o "$fresh/hashed.txt" > "$fresh/log"
.venv/bin/python scripts/locked.py --hashes "$fresh/hashed.txt" scripts/further-hashes.txt > requirements.sha256
