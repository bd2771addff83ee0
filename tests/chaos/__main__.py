"""``python -m tests.chaos --minutes 20 --seed 1``: exit code 1 where a promise did not hold."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.chaos.run import chaos


def main() -> int:
    """Run it, print the figures as JSON, say where everything lies."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="A chaos run; see tests/chaos."
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--folder", type=Path, help="where it runs; must not exist [/tmp/firstread-chaos-SEED]"
    )
    parser.add_argument("--without-prefect", action="store_true")
    asked = parser.parse_args()
    folder = (asked.folder or Path(f"/tmp/firstread-chaos-{asked.seed}")).resolve()
    outcome = chaos(folder, asked.seed, asked.minutes * 60, with_prefect=not asked.without_prefect)
    sys.stdout.write(json.dumps(asdict(outcome), indent=1) + f"\n{folder}\n")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
