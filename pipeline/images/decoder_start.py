"""Starts a decoder's program in a process of its own, which is given open files and no secret."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

from pipeline.child_process import bare
from pipeline.settings import environment


def start_decoder(program: ModuleType, *files: int) -> "subprocess.Popen[bytes]":
    """The process that runs the file of ``program``; its arguments are the descriptors ``files``, which it inherits.

    Its standard input and output are pipes without a buffer. Raises OSError where no process can be started.
    """
    source = Path(str(program.__file__))
    return subprocess.Popen(
        # -P: the folder of that file holds modules that are named as some of Python's own.
        [sys.executable, "-P", source, *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=files,
        env=bare(environment()),
        cwd=source.parent,
        bufsize=0,
    )
