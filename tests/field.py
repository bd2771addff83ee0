"""python -m tests.field [PART OF A KIND'S NAME ...]: what was met in the field, and whether its tests pass today.

Prints a table of ``field.toml``: a line for each case, with how many tests ran and what became of them. Ends with 1
where a test failed or a row has none that ran. It needs what the tests need (Orthanc, dcmtk, a Postgres of its own).
"""

import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that was met, and the tests that show it: files, or tests of a file, as pytest names them."""

    kind: str
    met: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test that ran: "passed", "failed" or "skipped"."""

    file: str
    name: str
    result: str


def cases(kinds: Sequence[str] = ()) -> tuple[Case, ...]:
    """The rows of the table, those of ``kinds`` alone where some are named."""
    table = tomllib.loads((TESTS / "field.toml").read_text(encoding="utf-8"))
    return tuple(
        Case(kind["name"], met, tuple(tests))
        for kind in table["kind"]
        if not kinds or any(part.casefold() in kind["name"].casefold() for part in kinds)
        for met, *tests in kind["rows"]
    )


def run(tests: Sequence[str]) -> tuple[Outcome, ...]:
    """What became of each test, by pytest in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={told}", "-o", "junit_family=xunit1"]
        subprocess.run([*command, *(f"tests/{one}" for one in tests)], cwd=TESTS.parent, check=False)
        if not told.exists():
            return ()
        found = ElementTree.parse(told).iter("testcase")
        return tuple(
            _outcome(one) for one in found if "name" in one.attrib
        )  # none where a run was interrupted


def _outcome(told: ElementTree.Element) -> Outcome:
    failed = told.find("failure") is not None or told.find("error") is not None
    skipped = told.find("skipped") is not None
    name = told.attrib["name"].partition("[")[0]
    file = told.attrib.get("file") or told.attrib["classname"].replace(".", "/") + ".py"
    return Outcome(
        file.removeprefix("tests/"), name, "failed" if failed else "skipped" if skipped else "passed"
    )


def of_case(case: Case, outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many of a case's tests passed, failed and were skipped."""
    return Counter(
        one.result for one in outcomes if one.file in case.tests or f"{one.file}::{one.name}" in case.tests
    )


def main(kinds: Sequence[str]) -> int:
    """Run and print; the exit code."""
    chosen = cases(kinds)
    if not chosen:
        sys.stderr.write("there is no such kind\n")
        return 2
    outcomes = run(sorted({test for case in chosen for test in case.tests}))
    bad, kind = 0, ""
    for case in chosen:
        if case.kind != kind:
            kind = case.kind
            sys.stdout.write(f"\n{kind}\n")
        found = of_case(case, outcomes)
        right = found["passed"] > 0 and not found["failed"]
        bad += not right
        counts = ", ".join(f"{number} {result}" for result, number in sorted(found.items())) or "none ran"
        sys.stdout.write(f"  {'right' if right else 'WRONG':5}  {counts:24}  {case.met}\n")
    sys.stdout.write(f"\n{len(chosen)} cases, {len(chosen) - bad} right\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
