"""The stand-in of RadEval (``tests/radeval_stand_in``) as an installed package, for processes that a test starts."""

import os
import shutil
from pathlib import Path

import pytest

from tests.readme import ROOT


def install_radeval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install it under ``folder`` and put that on the path of processes to come; gives the package's folder."""
    package = folder / "radeval"
    shutil.copytree(ROOT / "tests" / "radeval_stand_in", package)
    about = folder / "radeval-2.2.1.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: radeval\nVersion: 2.2.1\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))))
    return package
