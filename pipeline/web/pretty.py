"""JSON indented for a person (R4 section 3.1.0.1.10, ``_pretty``); numbers and strings stay as they are written."""


def indented(text: str) -> str:
    """``text`` (JSON) with a line for each member."""
    out: list[str] = []
    depth, quoted, escaped, previous = 0, False, False, ""
    for letter in text:
        if quoted:
            out.append(letter)
            quoted, escaped = escaped or letter != '"', letter == "\\" and not escaped
            continue
        if letter.isspace():
            continue
        if letter in "}]":
            depth -= 1
            out.append(letter if previous in "{[" else "\n" + "  " * depth + letter)
        else:
            if previous in "{[," and previous:
                out.append("\n" + "  " * depth)
            out.append(": " if letter == ":" else letter)
            depth += letter in "{["
        quoted, previous = letter == '"', letter
    return "".join(out)
