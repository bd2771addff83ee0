"""The commands that the README and other pages show, as the tests run them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands(program: str, page: str = "README.md") -> list[list[str]]:
    """Every command of ``program`` in the page's sh blocks, in order, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == program]


def programs(page: str = "README.md") -> set[str]:
    """Every program that the page's sh blocks start."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return {
        line.split()[0]
        for block in re.findall(r"```sh\n(.*?)```", text, re.S)
        for line in block.splitlines()
        if line
    }
