"""The environment is what the locks say for this Python: every package at its version, no package beside them."""

import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from scripts.locked import CUDA, read_rows, version_of

ROOT = Path(__file__).resolve().parent.parent
BESIDE = {"firstread", "pip"}


def main() -> int:
    """Print every difference; 1 where there is one."""
    locked = {
        canonicalize_name(row.name): version_of(row)
        for lock in ("requirements.lock", "requirements-dev.lock")
        for row in read_rows(ROOT / lock)
        if row.marker is None or row.marker.evaluate()
    }
    installed = {canonicalize_name(one.name): one.version.split("+")[0] for one in distributions()}
    faults = [
        f"{name}: locked {version}, installed {installed.get(name, 'not at all')}"
        for name, version in sorted(locked.items())
        if installed.get(name) != version
    ]
    faults += [
        f"{name}: installed and in no lock"
        for name in sorted(set(installed) - set(locked) - BESIDE)
        if not name.startswith(CUDA)
    ]
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
