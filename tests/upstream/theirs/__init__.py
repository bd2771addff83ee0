"""Scripts that run in an environment of a system's own: nothing of ours is importable there."""
