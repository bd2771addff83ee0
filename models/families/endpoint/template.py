"""Prompt templates: slots, parts that fall away where a slot is empty, and the places of images.

{indication}            a slot
[[ given {indication}]]     falls away where a slot inside is empty
[[Given {indication}, w||W]]rite    what stands after || where it falls away
<image>                 where an image goes; images without a place of their own come first
"""

import re
from collections.abc import Mapping, Sequence

IMAGE_MARK = "<image>"
_OPTIONAL = re.compile(r"\[\[(?P<given>.*?)(?:\|\|(?P<other>.*?))?\]\]", re.S)
_SLOT = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, values: Mapping[str, str]) -> list[str]:
    """The texts between the places of images, one more than places; KeyError for a slot without a value.

    Values are put in last and whole, so that no bracket, slot or image mark inside them is taken for one of ours.
    """

    def choose(part: re.Match[str]) -> str:
        slots = _SLOT.findall(part["given"])
        return part["given"] if all(values[slot].strip() for slot in slots) else part["other"] or ""

    pieces = _OPTIONAL.sub(choose, template).split(IMAGE_MARK)
    return [_SLOT.sub(lambda slot: values[slot[1]], piece) for piece in pieces]


def weave(texts: Sequence[str], images: Sequence[bytes]) -> tuple[str | bytes, ...]:
    """Texts and images in reading order. ValueError where there are more places than images."""
    places = len(texts) - 1
    if places > len(images):
        raise ValueError(f"the prompt has {places} places for {len(images)} images")
    first = len(images) - places
    woven: list[str | bytes] = list(images[:first])
    for number, text in enumerate(texts):
        if number:
            woven.append(images[first + number - 1])
        if text:
            woven.append(text)
    return tuple(woven)
