"""The environment is what the locks say: every package at its version, no package beside them."""

import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BESIDE = {"firstread", "pip"}


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def main() -> int:
    """Print every difference; 1 where there is one."""
    locked: dict[str, str] = {}
    for lock in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / lock).read_text().splitlines():
            name, _, version = line.partition("==")
            locked[normalised(name)] = version
    installed = {normalised(one.name): one.version.split("+")[0] for one in distributions()}
    faults = [
        f"{name}: locked {version}, installed {installed.get(name, 'not at all')}"
        for name, version in sorted(locked.items())
        if installed.get(name) != version
    ]
    if not any(name.startswith("nvidia-") for name in installed):
        faults += [
            f"{name}: installed and in no lock" for name in sorted(set(installed) - set(locked) - BESIDE)
        ]
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
