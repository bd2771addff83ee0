"""JSON on standard output: nothing that an archive or a model wrote steers the terminal it may be shown on.

A module of its own: what ends a command loads neither settings nor tables.
"""

import json
from typing import Any

from pipeline.characters import CONTROLS, DIRECTIONS, HALVES, LINE_ENDS, UNSEEN, one_of

_ESCAPED = one_of(CONTROLS, UNSEEN, LINE_ENDS, DIRECTIONS, HALVES)


def json_text(value: Any) -> str:
    """``value`` as JSON on one line; what steers a terminal or turns the direction of writing stands as an escape."""
    return _ESCAPED.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(value, ensure_ascii=False))
