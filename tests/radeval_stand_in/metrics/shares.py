"""Word overlap, in the place of RadGraph."""


def shared(one: str, other: str) -> float:
    """F1 of the sets of words, 0..1."""
    first, second = set(one.lower().split()), set(other.lower().split())
    return 2 * len(first & second) / (len(first) + len(second))
