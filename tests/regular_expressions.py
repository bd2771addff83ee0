"""Every regular expression of the project: those that a module keeps, and those that a call names in its place."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "flows")
"""What meets bytes of peers and texts of archives; models and scripts read files that the site chose."""
CALLS = frozenset({"compile", "match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn"})


def kept() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """The compiled patterns in the globals of every module, by the place that holds them."""
    seen: set[int] = set()
    for package in PACKAGES:
        folder = importlib.import_module(package)
        for found in pkgutil.walk_packages(folder.__path__, f"{package}."):
            for name, value in vars(importlib.import_module(found.name)).items():
                for pattern in _patterns(value):
                    if id(pattern) not in seen:
                        seen.add(id(pattern))
                        yield f"{found.name}.{name}", pattern


def _patterns(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, Mapping):
        for one in value.values():
            yield from _patterns(one, depth + 1)
    elif depth < 3 and isinstance(value, tuple | list | frozenset | set):
        for one in value:
            yield from _patterns(one, depth + 1)


def named() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """The patterns that stand as a literal in a call of ``re``, with file and line."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                    continue
                owner, first = node.func.value, node.args[0]
                if not (isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr in CALLS):
                    continue
                if isinstance(first, ast.Constant) and isinstance(first.value, str | bytes):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", re.compile(first.value)


def every() -> dict[str, re.Pattern[Any]]:
    """Each pattern once, under the place where it was found first."""
    found: dict[tuple[Any, int], tuple[str, re.Pattern[Any]]] = {}
    for place, pattern in (*kept(), *named()):
        found.setdefault((pattern.pattern, pattern.flags), (place, pattern))
    return {f"{place}#{number}": pattern for number, (place, pattern) in enumerate(found.values())}
