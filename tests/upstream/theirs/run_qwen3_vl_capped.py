"""The same in the locked transformers, each frame bounded. Its ids have a second pair of vision marks around a clip."""

from clips import run

run(ids=False)
