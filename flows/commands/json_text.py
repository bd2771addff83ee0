"""JSON on standard output: nothing that an archive or a model wrote steers the terminal it may be shown on.

A module of its own: what ends a command loads neither settings nor tables.
"""

import json
import re
from typing import Any

_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def json_text(value: Any) -> str:
    """``value`` as JSON on one line; what steers a terminal or turns the direction of writing stands as an escape."""
    return _UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(value, ensure_ascii=False))
