"""Times of a header."""

from datetime import time


def read_time(value: str) -> time | None:
    """A TM value (PS3.5 6.2), whole seconds; None where it is no time. A leap second counts as the second
    before, and so does 24:00:00.
    """
    digits = value.replace(":", "").split(".")[0]
    if len(digits) not in (2, 4, 6) or not (digits.isascii() and digits.isdecimal()):
        return None
    hour, minute, second = (int(part or 0) for part in (digits[:2], digits[2:4], digits[4:6]))
    if digits == "240000":
        hour, minute, second = 23, 59, 59
    try:
        return time(hour, minute, min(second, 59) if second <= 60 else second)
    except ValueError:
        return None
