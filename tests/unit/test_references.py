"""Every page and anchor that documents, code and tests refer to is there."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READ = {".md", ".py", ".sql", ".toml", ".yaml", ".yml", ".sh", ".html", ".css", ".js"}
DECISIONS = ROOT / "docs" / "decisions"


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository that text may refer from; of a copy without git all of them."""
    named = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    files = [ROOT / one for one in named] if named else list(ROOT.rglob("*"))
    return tuple(
        one
        for one in files
        if (one.suffix in READ or one.name == "Makefile") and ".venv" not in one.parts and one.is_file()
    )


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that a forge makes of the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
    return frozenset(
        slug if number == 0 else f"{slug}-{number}" for slug, most in seen.items() for number in range(most)
    )


def missing(base: Path, reference: str) -> str:
    """What is wrong with ``reference`` as seen from the folder ``base``, or ""."""
    path, _, anchor = reference.partition("#")
    page = (base / path).resolve()
    if not page.exists():
        return f"{reference}: no such page"
    if anchor and anchor not in anchors(page):
        return f"{reference}: no such heading"
    return ""


def links(page: Path) -> list[str]:
    """The targets of a page's links, those inside it included, without addresses of other sites."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    found = re.findall(r"\]\(<?([^)>\s]+)>?\)", text)
    return [one if not one.startswith("#") else page.name + one for one in found if "://" not in one]


def mentions(text: str) -> list[str]:
    """The pages of docs/ that a text names, with their anchors."""
    found = re.findall(r"(?<![\w./-])docs/[\w./-]+(?:#[\w-]+)?", text)
    return [one.rstrip(".") for one in found]


@pytest.mark.parametrize(
    "page", [one for one in tracked() if one.suffix == ".md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    assert [fault for link in links(page) if (fault := missing(page.parent, link))] == []


def test_pages_named_in_code_are_there() -> None:
    faults = []
    for file in tracked():
        for one in mentions(file.read_text(encoding="utf-8")):
            # A decision may be named by its number alone.
            known = any(ROOT.glob(f"{one}*.md")) if re.fullmatch(r"docs/decisions/\d{4}", one) else False
            if not known and (fault := missing(ROOT, one)):
                faults.append(f"{file.relative_to(ROOT)}: {fault}")
    assert faults == []


def test_decisions_named_by_number_are_there() -> None:
    numbers = {int(one.name[:4]) for one in DECISIONS.glob("0*.md")}
    faults: list[str] = []
    for file in tracked():
        named = re.findall(r"\b[Dd]ecision (\d+)", file.read_text(encoding="utf-8"))
        faults += [f"{file.relative_to(ROOT)}: decision {one}" for one in named if int(one) not in numbers]
    assert faults == []


def test_no_text_cites_a_document_outside_the_repository() -> None:
    words = "DESIGN" + " section"
    assert [str(one) for one in tracked() if words in one.read_text(encoding="utf-8")] == []


def test_every_decision_has_a_status_and_stands_in_the_index() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    for page in sorted(DECISIONS.glob("0*.md")):
        title, _, status = page.read_text(encoding="utf-8").splitlines()[:3]
        assert re.fullmatch(rf"# {int(page.name[:4])}\. .+", title), page.name
        assert re.fullmatch(r"Status: (accepted|replaced by \d+), \d{4}-\d\d-\d\d", status), page.name
        assert f"]({page.name})" in index, f"{page.name} is not in the index"


def test_a_wrong_reference_is_found() -> None:
    assert missing(ROOT, "docs/design.md#patient-data") == ""
    assert "no such page" in missing(ROOT / "docs", "nothing.md")
    assert "no such heading" in missing(ROOT / "docs", "design.md#nothing")
    assert mentions("see docs/design.md#the-ledger, or docs/checks.md.") == [
        "docs/design.md#the-ledger",
        "docs/checks.md",
    ]
