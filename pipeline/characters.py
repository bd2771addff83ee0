"""Characters of text from outside that show something else than what is stored, or act on what shows it.

Each constant is what stands between the brackets of a regular expression; who shows or keeps text puts together those
that do harm there, and says what becomes of them.
"""

import re

CONTROLS = "\x00-\x08\x0b\x0e-\x1f\x7f-\x9f"
"""The Unicode category Cc, which steers terminals, but for tab, line feed, form feed and carriage return."""
DIRECTIONS = "\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates of the direction of writing (Unicode Standard Annex 9)."""
UNSEEN = "\u200b-\u200f\u2060-\u2065\ufeff"
"""Marks and joiners without a width."""
LINE_ENDS = "\u2028\u2029"
"""The line and the paragraph separator."""
HALVES = "\ud800-\udfff"
"""Halves of surrogate pairs, which no encoding of Unicode can write."""


def one_of(*ranges: str) -> re.Pattern[str]:
    """Finds one character of these ``ranges``."""
    return re.compile(f"[{''.join(ranges)}]")
