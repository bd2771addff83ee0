"""Which lines that a change adds no test runs.

``make coverage BASE=origin/main T=tests/unit`` runs ``T`` under coverage.py and then this module on its JSON: it lists
the changed lines that can be run and were not, and exits with 1 where there is one.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("pipeline", "models", "flows", "sql")

_FILE = re.compile(r"\+\+\+ b/(.+)")
_HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def added(diff: str) -> dict[str, set[int]]:
    """The lines that a unified diff without context (``git diff --unified=0``) adds, by file, counted from 1."""
    files: dict[str, set[int]] = {}
    current: set[int] = set()
    for line in diff.splitlines():
        if line.startswith("+++ "):
            named = _FILE.fullmatch(line)  # a file that was removed is called /dev/null
            current = files.setdefault(named[1], set()) if named else set()
        elif hunk := _HUNK.match(line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            current.update(range(first, first + count))
    return {name: lines for name, lines in files.items() if lines}


def unrun(
    changed: Mapping[str, set[int]], report: Mapping[str, Mapping[str, list[int]]]
) -> dict[str, set[int]]:
    """The changed lines that no test ran: in ``report`` (``files`` of coverage's JSON), or in no file of it."""
    found = {}
    for name, lines in changed.items():
        seen = report.get(name)
        left = lines & set(seen["missing_lines"]) if seen is not None else lines
        if left:
            found[name] = left
    return found


def ranges(lines: Iterable[int]) -> str:
    """Line numbers in order, runs of them as 3-7."""
    runs: list[list[int]] = []
    for line in sorted(lines):
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def changed_since(base: str) -> dict[str, set[int]]:
    """The lines of ours that differ from where this branch left ``base``, uncommitted ones included."""
    fork = _git("merge-base", base, "HEAD").strip()
    diff = _git("diff", "--unified=0", "--no-ext-diff", "--no-color", fork, "--", *MEASURED)
    return {name: lines for name, lines in added(diff).items() if name.endswith(".py")}


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout


def main(base: str, report: str) -> int:
    """List the unrun lines of the change since ``base``; 1 where there is one."""
    files = json.loads(Path(report).read_text(encoding="utf-8"))["files"]
    changed = changed_since(base)
    left = unrun(changed, files)
    for name, lines in sorted(left.items()):
        print(f"{name}: no test ran {ranges(lines)}")
    total = sum(map(len, changed.values()))
    print(f"{total} lines changed since {base}, {sum(map(len, left.values()))} of them run by no test")
    return 1 if left else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
