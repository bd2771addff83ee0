"""One word per thing: a public class has a name of its own, and a file's name says which file it is."""

import ast
from collections import Counter, defaultdict
from pathlib import Path

from pipeline.study import LeftOutReason

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for room in ("flows", "models", "pipeline", "sql") for path in (ROOT / room).rglob("*.py")
)


def test_a_public_class_name_stands_once() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
    assert len(homes) > 200


def test_a_reason_of_a_left_out_instance_stands_in_its_enumeration_alone() -> None:
    """A code made elsewhere would have no place in the order of reasons, and would warn on a report by default."""
    reasons = {reason.value for reason in LeftOutReason}
    elsewhere = {
        (path.relative_to(ROOT).as_posix(), node.value)
        for path in SOURCES
        if path.name != "study.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in reasons
    }
    assert elsewhere == set()


def test_a_file_name_stands_at_most_twice() -> None:
    names = Counter(path.name for path in SOURCES if path.name != "__init__.py")
    assert {name: count for name, count in names.items() if count > 2} == {}


def test_every_module_has_one_name_for_its_logger() -> None:
    loggers = {
        (path.relative_to(ROOT).as_posix(), target.id)
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert {name for _, name in loggers} == {"log"}, loggers
