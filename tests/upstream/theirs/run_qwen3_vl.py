"""The processor of Qwen3-VL in its first release: films and clips, a clip's frames as large as its own bound allows."""

from clips import run

run(ids=True)
