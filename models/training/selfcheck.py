"""Write the self-check of a weights folder: ``python -m models.training.selfcheck FOLDER``."""

import argparse
from pathlib import Path

from models.families.mini.export import record_self_check
from models.weight_loading.verified import SELF_CHECK_FILE, SelfCheck


def write_self_check(folder: Path) -> SelfCheck:
    """Compute and write ``selfcheck.json``; run when the weights are final. Raises StopRun for unsound weights."""
    check = record_self_check(folder)
    (folder / SELF_CHECK_FILE).write_text(check.to_json(), encoding="utf-8")
    return check


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_self_check(parser.parse_args().folder)


if __name__ == "__main__":
    main()
