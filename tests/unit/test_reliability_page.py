"""docs/reliability.md names tests: each of them is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`((?:unit|integration|contract|acceptance)/\w+\.py)(?:::(\w+))?`")


def test_every_test_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = NAMED.findall(page)
    assert len(named) > 60
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not test or test in there, f"{file} has no {test}"


def test_every_row_of_a_fault_names_a_test() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tables = page.partition("## Faults")[2].partition("## In seconds")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(rows) > 45
    assert not [row for row in rows if not NAMED.search(row)]
