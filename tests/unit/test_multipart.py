"""The multipart reader, fed in every way a network may feed it."""

import re
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.dicomweb.multipart import MultipartReader, boundary_of

BOUNDARY = b"b-0123"


class Parts:
    """Collects parts; ``whole`` holds only those that ended."""

    def __init__(self) -> None:
        self.headers: list[Mapping[str, str]] = []
        self.whole: list[bytes] = []
        self._open = bytearray()

    def begin(self, headers: Mapping[str, str]) -> None:
        self.headers.append(headers)
        self._open = bytearray()

    def write(self, piece: memoryview) -> None:
        self._open += piece

    def end(self) -> None:
        self.whole.append(bytes(self._open))


def body(parts: list[bytes], *, lengths: bool = False, preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    """A multipart body as PS3.18 servers write it."""
    encoded = preamble
    for part in parts:
        length = b"Content-Length: %d\r\n" % len(part) if lengths else b""
        encoded += b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n" + length + b"\r\n" + part
    return encoded + b"\r\n--" + BOUNDARY + b"--" + epilogue


def fed(encoded: bytes, sizes: list[int]) -> Callable[[memoryview], int]:
    """A ``readinto`` that gives the bytes in pieces of these sizes, then all the rest."""
    left = bytearray(encoded)
    steps = iter(sizes)

    def readinto(piece: memoryview) -> int:
        count = min(next(steps, len(piece)), len(piece), len(left))
        piece[:count] = left[:count]
        del left[:count]
        return count

    return readinto


def read(encoded: bytes, sizes: list[int] | None = None, *, by_length: bool = True) -> Parts:
    parts = Parts()
    MultipartReader(BOUNDARY, parts, by_length=by_length).read(fed(encoded, sizes or []))
    return parts


nearly_delimiters = st.sampled_from(
    [
        b"\r\n--b-0123x",
        b"\r\n--b-012",
        b"\r\n--",
        b"\r",
        b"\n",
        b"--b-0123--",
        b"\r\n--b-0123-",
        b"\r\n\r\n",
        b"DICM",
    ]
)
DELIMITER = re.compile(
    rb"\r\n--b-0123(--|-?\Z|[ \t\r]*(\n|\Z))"
)  # what no part may hold (RFC 2046 section 5.1.1)
contents = (
    st.lists(st.one_of(st.binary(max_size=40), nearly_delimiters), max_size=6)
    .map(b"".join)
    .filter(lambda content: DELIMITER.search(content) is None)
)
piece_sizes = st.lists(st.integers(1, 30), max_size=400)


@given(st.lists(contents, max_size=5), piece_sizes, st.booleans(), st.booleans())
def test_parts_come_out_as_they_went_in_however_the_bytes_are_cut(
    parts: list[bytes], sizes: list[int], lengths: bool, by_length: bool
) -> None:
    assert read(body(parts, lengths=lengths), sizes, by_length=by_length).whole == parts


@given(st.lists(contents, min_size=1, max_size=3), st.integers(0, 400), piece_sizes, st.booleans())
def test_a_body_that_is_cut_never_looks_whole(
    parts: list[bytes], keep: int, sizes: list[int], lengths: bool
) -> None:
    encoded = body(parts, lengths=lengths)
    cut = encoded[: min(keep, len(encoded) - 1)]
    sink = Parts()
    with pytest.raises(EOFError):
        MultipartReader(BOUNDARY, sink).read(fed(cut, sizes))
    assert sink.whole == parts[: len(sink.whole)]


@given(st.binary(max_size=300), piece_sizes)
def test_noise_is_refused_and_never_hangs(noise: bytes, sizes: list[int]) -> None:
    with pytest.raises((EOFError, ValueError)):
        read(noise, sizes)


def test_preamble_and_epilogue_are_left_out() -> None:
    assert read(body([b"one", b"two"], preamble=b"hello\r\n", epilogue=b"\r\nbye")).whole == [b"one", b"two"]


def test_a_body_may_begin_with_its_first_delimiter() -> None:
    assert read(body([b"one"])[2:]).whole == [b"one"]


def test_parts_larger_than_the_buffer_are_streamed() -> None:
    large = bytes(range(256)) * 4096
    assert read(body([large, b"", large], lengths=True)).whole == [large, b"", large]
    assert read(body([large, b"", large])).whole == [large, b"", large]


def test_headers_are_read_and_may_be_absent() -> None:
    encoded = b"--b-0123\r\n\r\nbare\r\n--b-0123\r\nX-A: 1\r\nX-B:2\r\n\r\nfull\r\n--b-0123--"
    parts = read(encoded)
    assert parts.whole == [b"bare", b"full"]
    assert parts.headers[1] == {"x-a": "1", "x-b": "2"}


@pytest.mark.parametrize("stated", [2, 4, 10_000])
def test_a_length_that_lies_is_noticed_and_can_be_overruled(stated: int) -> None:
    encoded = b"--b-0123\r\nContent-Length: %d\r\n\r\nabc\r\n--b-0123--" % stated + b" " * 20_000
    with pytest.raises((ValueError, EOFError)):
        read(encoded)
    assert read(encoded, by_length=False).whole == [b"abc"]


def test_headers_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="headers do not end"):
        read(b"--b-0123\r\n" + b"X-Filler: y\r\n" * 10_000)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', b"abc"),
        ('Multipart/Related;boundary="a b; c";type="application/dicom"', b"a b; c"),
        ("multipart/related; BOUNDARY = x-1 ; type=application/dicom", b"x-1"),
    ],
)
def test_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "application/dicom", "multipart/related", "multipart/related; boundary="]
)
def test_an_answer_without_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="multipart"):
        boundary_of(content_type)
