"""The table of what was met in the field names tests that exist, and its counts are those of its tests."""

import ast
from collections import Counter

import pytest

from tests.field import TESTS, Case, Outcome, cases, of_case


@pytest.mark.parametrize("named", sorted({test for case in cases() for test in case.tests}))
def test_every_test_that_is_named_exists(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    found = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in found if name else any(one.startswith("test_") for one in found)


def test_each_case_counts_its_own_tests() -> None:
    case = Case("kind", "met", ("unit/test_a.py::test_one", "unit/test_b.py"))
    ran = [
        Outcome("unit/test_a.py", "test_one", "passed"),
        Outcome("unit/test_a.py", "test_one", "failed"),
        Outcome("unit/test_a.py", "test_two", "failed"),
        Outcome("unit/test_b.py", "test_three", "skipped"),
    ]
    assert of_case(case, ran) == Counter(passed=1, failed=1, skipped=1)


def test_a_kind_is_found_by_a_part_of_its_name() -> None:
    assert {case.kind for case in cases(["NUMBERS"])} == {"numbers out of range"}
    assert cases(["no such kind"]) == ()
