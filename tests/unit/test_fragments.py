"""Frames of compressed pixel data by their places: with a table, without one, with one that lies, and in cut files.

Expected places follow from what the test wrote, and from pydicom's own reading.
"""

import struct
from pathlib import Path

import pytest
from pydicom.encaps import get_frame

from pipeline.errors import FailStudy
from pipeline.images import fragments
from pipeline.images.fragments import frame_table

JPEG = b"\xff\xd8\xff"
END = struct.pack("<II", 0xE0DDFFFE, 0)


def item(content: bytes) -> bytes:
    return struct.pack("<II", 0xE000FFFE, len(content)) + content


def codestream(number: int, size: int = 40) -> bytes:
    return JPEG + bytes([number]) * (size - 5) + b"\xff\xd9"


def written(path: Path, pieces: list[list[bytes]], table: list[int] | None = None, end: bytes = END) -> Path:
    """A list of fragments for each frame, behind 16 bytes of something else."""
    offsets = b"" if table is None else struct.pack(f"<{len(table)}I", *table)
    held = b"".join(item(piece) for frame in pieces for piece in frame)
    path.write_bytes(b"x" * 16 + item(offsets) + held + end)
    return path


def frames(path: Path, count: int) -> list[bytes]:
    table = frame_table(path, 16, count)
    return [table.read(path, number, 1000) for number in range(count)]


WHOLE = [codestream(number) for number in range(5)]
IN_PIECES = [[one[:10], one[10:20], one[20:]] for one in WHOLE]
RIGHT = [number * (40 + 24) for number in range(5)]


@pytest.mark.parametrize(
    "table",
    [None, RIGHT, [0, 7, 9, 11, 13], [0, 0, 0, 0, 0], RIGHT[:3], [4_000_000_000] * 5],
    ids=["none", "right", "lies", "zeros", "short", "beyond"],
)
@pytest.mark.parametrize("pieces", [[[one] for one in WHOLE], IN_PIECES], ids=["one", "several"])
def test_frames_are_found_whatever_the_table_says(
    pieces: list[list[bytes]], table: list[int] | None, tmp_path: Path
) -> None:
    path = written(tmp_path / "a", pieces, table)
    assert frames(path, 5) == WHOLE
    if table is None:
        content = path.read_bytes()[16:]
        assert [get_frame(content, number, number_of_frames=5) for number in range(5)] == WHOLE


def test_frames_that_only_their_ends_or_only_their_beginnings_tell(tmp_path: Path) -> None:
    ends = [[b"a" * 10, b"b" * 10 + b"\xff\xd9"] for _ in range(3)]
    assert frames(written(tmp_path / "a", ends), 3) == [b"".join(one) for one in ends]
    begins = [[JPEG + b"a" * 10, b"b" * 10] for _ in range(3)]
    assert frames(written(tmp_path / "b", begins), 3) == [b"".join(one) for one in begins]


def test_all_fragments_of_a_single_frame_are_joined(tmp_path: Path) -> None:
    assert frames(written(tmp_path / "a", [[b"12", b"34", b"", b"56"]]), 1) == [b"123456"]


@pytest.mark.parametrize(
    ("pieces", "count", "end", "code"),
    [
        ([[one] for one in WHOLE], 6, END, "pixel-data-short"),  # fewer frames than the header declares
        ([[one] for one in WHOLE], 5, struct.pack("<II", 0xE000FFFE, 900) + b"cut", "pixel-data-short"),
        ([], 1, b"", "pixel-data-short"),
        ([[b"ab", b"cd"] for _ in range(3)], 3, END, "frame-places"),
    ],
)
def test_what_cannot_be_placed_is_named(
    pieces: list[list[bytes]], count: int, end: bytes, code: str, tmp_path: Path
) -> None:
    with pytest.raises(FailStudy) as caught:
        frames(written(tmp_path / "a", pieces, end=end), count)
    assert caught.value.code == code


def test_a_missing_end_behind_the_last_item_is_no_cut(tmp_path: Path) -> None:
    assert frames(written(tmp_path / "a", [[one] for one in WHOLE], end=b""), 5) == WHOLE


def test_a_frame_of_four_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The file is sparse: it takes no room on the disk, and would take four gigabytes in memory."""
    path = tmp_path / "a"
    size = 0xFFFFFFF0
    path.write_bytes(b"x" * 16 + item(b"") + struct.pack("<II", 0xE000FFFE, size))
    with path.open("r+b") as file:
        file.truncate(32 + size)
    with pytest.raises(FailStudy) as caught:
        frame_table(path, 16, 1).read(path, 0, 512 * 512)
    assert caught.value.code == "too-large"


def test_pieces_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MOST_FRAGMENTS", 3)
    with pytest.raises(FailStudy) as caught:
        frames(written(tmp_path / "a", [[one] for one in WHOLE]), 5)
    assert caught.value.code == "too-large"


def test_a_file_that_was_written_anew_is_walked_anew(tmp_path: Path) -> None:
    assert frames(written(tmp_path / "a", [[one] for one in WHOLE]), 5) == WHOLE
    turned = WHOLE[::-1]
    assert frames(written(tmp_path / "a", [[b"more", *[]]] + [[one] for one in turned[1:]]), 5)[0] == b"more"
