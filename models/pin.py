"""Pin a folder of weights that a site brought: ``python -m models.pin FOLDER``.

Writes ``SHA256SUMS`` over the files that shape an answer and prints the value for ``model.sha256``.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from models.weight_loading.weight_files import SUMS_FILE, inspect_folder, sums_text, weight_digests
from pipeline.errors import FirstreadError


def write_sums(folder: Path) -> str:
    """Write the list; returns its SHA-256. Raises as ``inspect_folder``."""
    content = sums_text(weight_digests(inspect_folder(folder))).encode()
    (folder / SUMS_FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    try:
        digest = write_sums(parser.parse_args().folder)
    except FirstreadError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f'sha256 = "{digest}"\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
