"""What a language model wrote, as token ids. Whoever names it loads none of the runners' libraries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrittenText:
    """Token ids of one text without its end token; ``truncated`` when the limit came before the end."""

    ids: tuple[int, ...]
    truncated: bool
