"""JSON for a person's eyes says what it said."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.pretty import indented

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_it_says_the_same_and_as_the_standard_library_would(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(indented(text)) == value
    assert indented(text) == json.dumps(value, ensure_ascii=ascii_only, indent=2)


def test_numbers_stay_as_they_are_written() -> None:
    assert indented('{"value":1.50,"more":[1e3]}') == '{\n  "value": 1.50,\n  "more": [\n    1e3\n  ]\n}'
