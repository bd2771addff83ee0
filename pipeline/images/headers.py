"""Reading a header: everything before the pixels, from files that may be wrong in any way.

Values are read leniently, because a header is only evidence: what cannot be parsed counts as absent. What
makes the file unusable raises FailStudy, whose message names the fault and never the value.
"""

import io
import logging
import math
import re
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO

from pydicom import config, dcmread
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.errors import FailStudy
from pipeline.images.limits import ImageLimits
from pipeline.images.stored_elements import PIXEL_TAGS, StoredElements, read_elements

MALFORMED = (
    ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zlib.error, BytesLengthException, InvalidDicomError,
)  # fmt: skip
"""What pydicom and the codecs raise on malformed input."""

_ESCAPE = re.compile(r"\x1b[\x24\x28-\x2f]+[\x30-\x7e]")
_DATE = re.compile(r"([0-9]{4})([./-]?)([0-9]{2})\2([0-9]{2})(?:$|[ T0-9])")
LARGE_VALUE = 1 << 20
"""Header values above this many bytes are not read: nothing we use is larger."""


@dataclass(frozen=True, slots=True)
class RuledElements:
    """A data set in which a site's rule puts some values by keyword in place of the header's; ``rule`` says which."""

    header: Dataset | StoredElements
    puts: Mapping[str, tuple[str, ...]]
    rule: str

    def get(self, keyword: str) -> object:
        """As pydicom's ``Dataset.get`` of the header: no rule puts what is asked for in this way."""
        return self.header.get(keyword)


@dataclass(frozen=True, slots=True)
class FrameElements:
    """A data set as one of its frames sees it: what its functional groups say stands before the header's own."""

    header: Dataset | StoredElements | RuledElements
    puts: Mapping[str, tuple[object, ...]]

    def get(self, keyword: str) -> object:
        """As pydicom's ``Dataset.get`` of the header: no functional group holds what is asked for in this way."""
        return self.header.get(keyword)


Elements = Dataset | StoredElements | RuledElements | FrameElements
"""A data set as ``text``, ``numbers`` and their like ask it."""


@dataclass(frozen=True, slots=True)
class Header:
    """One file's data set up to its pixels.

    ``pixel_offset`` is where the pixel element starts in the file (in the inflated data set where deflated),
    or None where there is none. ``implicit`` and ``little`` are the encoding really found.
    """

    path: Path
    dataset: Elements
    transfer_syntax: str
    implicit: bool
    little: bool
    pixel_offset: int | None


def read_header(path: Path, limits: ImageLimits) -> Header:
    """Read ``path`` up to its pixels. Raises FailStudy("not-dicom" or "unreadable")."""
    quieten_pydicom()
    with refusing("unreadable", "the header cannot be read: the file is damaged"), path.open("rb") as file:
        if (plain := read_elements(file)) is not None:
            elements, syntax, implicit, pixels = plain
            return Header(path, elements, syntax, implicit, little=True, pixel_offset=pixels)
        syntax = _transfer_syntax(file, path)
        if syntax == DeflatedExplicitVRLittleEndian:
            stream: BinaryIO = inflated(path, limits)
            dataset = read_dataset(stream, False, True, stop_when=_at_pixels, defer_size=LARGE_VALUE)
            implicit, little = False, True
        else:
            stream = file
            dataset = dcmread(file, stop_before_pixels=True, defer_size=LARGE_VALUE)
            found_implicit, found_little = dataset.original_encoding
            implicit, little = bool(found_implicit), bool(found_little)
        offset = stream.tell()
        more = len(stream.read(12)) == 12
        return Header(path, dataset, syntax, implicit, little, offset if more else None)


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag in PIXEL_TAGS


def _transfer_syntax(file: BinaryIO, path: Path) -> str:
    file.seek(128)
    if file.read(4) != b"DICM":
        raise FailStudy("not-dicom", "not a DICOM file (PS3.10 7.1): it has no DICM prefix")
    file.seek(0)
    return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))


def inflated(path: Path, limits: ImageLimits) -> io.BytesIO:
    """The data set of a deflated file (PS3.5 A.5). Raises FailStudy("too-large") beyond the limit."""
    content = path.read_bytes()
    if content[132:136] != b"\x02\x00\x00\x00":
        raise FailStudy("unreadable", "deflated, and the file meta group has no length")
    start = 144 + int(struct.unpack("<I", content[140:144])[0])
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(content[start:], limits.max_inflated_bytes)
    if inflater.unconsumed_tail:
        raise FailStudy("too-large", "the deflated data set inflates beyond the limit")
    return io.BytesIO(plain)


@contextmanager
def refusing(code: str, message: str) -> Iterator[None]:
    """Turn what malformed input raises into FailStudy; the cause is cut off, it may repeat header values."""
    try:
        yield
    except MALFORMED:
        raise FailStudy(code, message) from None
    except MemoryError:
        raise FailStudy("too-large", "more memory is asked for than there is") from None


def quieten_pydicom() -> None:
    """Keep pydicom from warning and logging header values, which are patient data. Safe to repeat."""
    config.settings.reading_validation_mode = config.IGNORE
    python_encoding.setdefault("ISO_IR 203", "iso8859_15")  # of PS3.3 table C.12-2, unknown to pydicom
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    logger = logging.getLogger("pydicom")
    if logger.level != logging.CRITICAL:
        logger.setLevel(logging.CRITICAL)


def text(dataset: Elements, keyword: str) -> str:
    """The element as Unicode without control characters; several values keep their backslash; "" where
    absent.
    """
    return "\\".join(texts(dataset, keyword))


def texts(dataset: Elements, keyword: str) -> tuple[str, ...]:
    """The element's values, each as :func:`text` gives it."""
    return tuple(clean(str(value)) for value in values(dataset, keyword))


def clean(value: str) -> str:
    """``value`` without control and unpaired surrogate characters, and without outer white space."""
    if value.isascii() and value.isprintable():
        return value.strip()
    if "\x1b" in value:
        value = _ESCAPE.sub("", value)  # pydicom leaves those of ISO 2022 IR 58 in the text
    return "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", value)).strip()


def read_date(value: str) -> date | None:
    """A DA value (PS3.5 6.2), also with dots (ACR-NEMA), dashes or slashes, or a time behind it; None if it is no date.

    Nor is one before 1800, which stands where a system has none: nobody alive was born then, and no time zone can be
    reckoned from the year 1.
    """
    found = _DATE.match(value)
    if found is None or found[1] < "1800":
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None


def numbers(dataset: Elements, keyword: str) -> tuple[float, ...]:
    """The element's values as finite numbers, or () where absent or any of them is not one."""
    found = []
    for value in values(dataset, keyword):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return ()
        if not math.isfinite(number):
            return ()
        found.append(number)
    return tuple(found)


def integer(dataset: Elements, keyword: str) -> int | None:
    """The element's first value as an integer, or None."""
    found = numbers(dataset, keyword)
    return int(found[0]) if found else None


def items(dataset: Elements, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence, () where absent or not a sequence."""
    return tuple(value for value in values(dataset, keyword) if isinstance(value, Dataset))


def decided_by(dataset: Elements, keyword: str) -> str:
    """The site's rule that stands for an attribute of the header ("rule 2"), "" where the header itself does."""
    if isinstance(dataset, FrameElements):
        dataset = dataset.header
    ruled = isinstance(dataset, RuledElements) and keyword in dataset.puts
    return dataset.rule.partition(":")[0] if ruled and isinstance(dataset, RuledElements) else ""


def as_pydicom(dataset: Elements) -> Dataset:
    """The whole header as pydicom's data set, without what a rule or a frame's groups put."""
    while isinstance(dataset, RuledElements | FrameElements):
        dataset = dataset.header
    return dataset.whole() if isinstance(dataset, StoredElements) else dataset


def values(dataset: Elements, keyword: str) -> tuple[object, ...]:
    """The element's values as they were read, () where absent."""
    while isinstance(dataset, RuledElements | FrameElements):
        if keyword in dataset.puts:
            return dataset.puts[keyword]
        dataset = dataset.header
    try:
        if isinstance(dataset, StoredElements):
            plain = dataset.plain_values(keyword)
            if plain is not None:
                return plain
        value: object = dataset.get(keyword)
    except MALFORMED:
        return ()
    if value is None or value == "" or value == b"":
        return ()
    if isinstance(value, MultiValue | list | tuple) or (isinstance(value, Iterable) and _is_sequence(value)):
        return tuple(value)
    return (value,)


def _is_sequence(value: object) -> bool:
    return type(value).__name__ == "Sequence"


def private_value(dataset: Elements, block: tuple[int, str], element: int) -> object:
    """The value of an element of a private block; bytes of an unknown VR as the text they are. None where absent."""
    try:
        value = as_pydicom(dataset).private_block(*block)[element].value
    except (KeyError, ValueError, NotImplementedError):
        return None
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
