"""A folder of its own for a system: its code at the pinned commit, and a virtual environment with its versions."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.upstream.systems import System

LENT = "lent-torch.pth"
TEXTS = (".py", ".md", ".json", ".jsonl", ".sh", ".yaml")
THEIRS = Path(__file__).with_name("theirs")


def prepare_source(system: System, folder: Path, source: Path | None) -> Path | None:
    """The checked out code; None for a system that is its packages alone. Raises CalledProcessError."""
    if not system.repository:
        return None
    code = folder / "code"
    if not code.is_dir():
        origin = str(source) if source else f"https://github.com/{system.repository}.git"
        subprocess.run(["git", "clone", "-q", "--no-checkout", origin, str(code)], check=True)
    git = ["git", "-C", str(code)]
    listed = subprocess.run(
        [*git, "ls-tree", "-r", "--name-only", system.commit], check=True, stdout=subprocess.PIPE
    )
    # their pictures are not needed, and a copy of the repository may lack them
    wanted = "\n".join(
        name
        for name in listed.stdout.decode().splitlines()
        if name.startswith(system.under) and name.endswith(TEXTS)
    )
    checkout = [*git, "checkout", "-q", "--pathspec-from-file=-", system.commit]
    subprocess.run(checkout, check=True, input=wanted.encode())
    return code


def prepare_environment(system: System, folder: Path) -> Path:
    """The environment's Python. torch is this environment's own, lent by a path file behind all others."""
    home, uv = folder / "venv", str(Path(sys.executable).with_name("uv"))
    python = home / "bin" / "python"
    wanted = "\n".join((*system.packages, *system.alone))
    done = folder / "installed.txt"
    if done.is_file() and done.read_text() == wanted:
        return python
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *system.packages], check=True)
    if system.alone:
        subprocess.run(
            [uv, "pip", "install", "-q", "--no-deps", "--python", str(python), *system.alone], check=True
        )
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / LENT).write_text(str(Path(torch.__file__).parents[1]) + "\n")
    done.write_text(wanted)
    return python


def run_theirs(system: System, python: Path, code: Path | None, work: Path) -> None:
    """Run the system's script in ``work``, its code importable. Raises CalledProcessError with what it printed."""
    script = THEIRS / f"run_{system.name.replace('-', '_')}.py"
    variables = {"PATH": os.environ["PATH"], "HOME": str(work), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    if code is not None:
        variables["PYTHONPATH"] = f"{code}:{code / 'src'}"
        variables["CODE"] = str(code)
    subprocess.run([str(python), "-W", "ignore", str(script)], cwd=work, env=variables, check=True)
