"""The commands that the README shows, as the tests run them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands(program: str) -> list[list[str]]:
    """Every command of ``program`` in the README's sh blocks, in order, without comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == program]


def programs() -> set[str]:
    """Every program that the README's sh blocks start."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return {
        line.split()[0]
        for block in re.findall(r"```sh\n(.*?)```", text, re.S)
        for line in block.splitlines()
        if line
    }
