"""Keeps resident memory flat: glibc otherwise gives each busy thread an arena of its own, and gives none back."""

import ctypes

M_ARENA_MAX = -8
ARENAS = 2


def limit_arenas() -> None:
    """Let malloc use ``ARENAS`` arenas (mallopt(3)); without glibc nothing happens. Call it before threads start."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):
        return
