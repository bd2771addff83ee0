#!/bin/sh
# Compile both locks anew from pyproject.toml. Addresses and local versions (torch's +cpu) never enter a lock.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# prefect asks for a certifi that is not published yet (docs/decisions/0002).
echo "certifi>=2026.10.18" > "$fresh/overrides.txt"
compile() {
  UV_FIND_LINKS="${PIP_FIND_LINKS:-}" .venv/bin/uv pip compile --quiet --override "$fresh/overrides.txt" \
    --no-header --no-annotate "$@"
}
compile pyproject.toml -o "$fresh/runtime.txt"
compile pyproject.toml --extra dev --constraint "$fresh/runtime.txt" -o "$fresh/all.txt"
# setuptools stays: torch declares it, and our own editable package is built with it.
clean() { sed 's/+cpu$//' "$1" | grep -v '^nvidia-\|^triton' | LC_ALL=C sort; }
clean "$fresh/runtime.txt" > requirements.lock
clean "$fresh/all.txt" > "$fresh/both.txt"
LC_ALL=C comm -13 requirements.lock "$fresh/both.txt" > requirements-dev.lock
