"""Headers drawn at random, through a file in each byte order, against a plain reading of the standard: sign, VR and
byte order of padding and tables (PS3.3 C.7.5.1.1.2, C.11.1, C.11.2, C.7.6.3.1.2; PS3.5 6.2 and 7.3).
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.grey import display
from pipeline.images.headers import read_header
from tests.grey_films import BIG, IMPLICIT, LIMITS, LITTLE, grey_film, lut_item, save_film, windowed

ROWS, COLUMNS = 40, 52


@dataclass(frozen=True)
class Film:
    """What is drawn: the pixels' kind, padding, and one way to display values."""

    syntax: str
    signed: bool
    bits: int
    padding: tuple[int, int] | None
    padding_vr: str
    slope: float
    intercept: float
    has_table: bool
    voi: str
    lut_vr: str
    descriptor_vr: str
    inverse: bool

    @functools.cached_property
    def modality(self) -> list[int]:
        """A Modality LUT over every value."""
        return list(range(0, 2 << self.bits, 2))

    @property
    def lowest(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def highest(self) -> int:
        return self.lowest + (1 << self.bits) - 1


@st.composite
def films(draw: st.DrawFn) -> Film:
    signed, bits = draw(st.booleans()), draw(st.integers(10, 16))
    low = -(1 << bits - 1) if signed else 0
    edge = draw(st.sampled_from([low, low + (1 << bits) - 1, low + 5]))
    padding = draw(st.none() | st.sampled_from([(edge, edge), (low, low + 3), (low + 9, low + 2)]))
    return Film(
        syntax=draw(st.sampled_from([IMPLICIT, LITTLE, BIG])),
        signed=signed,
        bits=bits,
        padding=padding,
        padding_vr=draw(st.sampled_from(["US", "SS"])),
        slope=draw(st.sampled_from([1.0, 2.0, 0.5, -1.0])),
        intercept=draw(st.sampled_from([0.0, -1024.0, 100.0])),
        has_table=bits <= 12 and draw(st.booleans()),
        voi=draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", "TABLE"])),
        lut_vr=draw(st.sampled_from(["US", "SS", "OW"])),
        descriptor_vr=draw(st.sampled_from(["US", "SS"])),
        inverse=draw(st.booleans()),
    )


def drawn(film: Film) -> np.ndarray:
    """Values over the whole range, the padding among them."""
    values = np.linspace(film.lowest, film.highest, ROWS * COLUMNS).round().astype(np.int64)
    if film.padding is not None:
        values[::7] = film.padding[0]
        values[3::11] = film.padding[1]
    return values.reshape(ROWS, COLUMNS)


def modality_range(film: Film) -> tuple[float, float]:
    ends = [modality_value(film, value) for value in (film.lowest, film.highest)]
    return min(ends), max(ends)


def modality_value(film: Film, value: int) -> float:
    """PS3.3 C.11.1.1: a table whose first value is mapped from the lowest here, or a line."""
    if film.has_table:
        return film.modality[min(max(value - film.lowest, 0), len(film.modality) - 1)]
    return value * film.slope + film.intercept


@functools.lru_cache(4)
def voi_table(film: Film) -> tuple[int, list[int]]:
    low, high = modality_range(film)
    first = max(-0x8000, int(low))
    count = min(30_000, int(high) - first)  # US and SS hold 65534 bytes (PS3.5 7.1.2)
    return first, [step * 0xFFFF // count for step in range(count)]


def shown_value(film: Film, value: int) -> float:
    """0..1 as PS3.3 C.11.2.1 prints it; padding is black."""
    if film.padding is not None and min(film.padding) <= value <= max(film.padding):
        return 0.0
    x = modality_value(film, value)
    if film.voi == "TABLE":
        first, entries = voi_table(film)
        shown = entries[min(max(round(x) - first, 0), len(entries) - 1)] / entries[-1]
    else:
        low, high = modality_range(film)
        shown = windowed(film.voi, (low + high) / 2, high - low, x)
    return 1 - shown if film.inverse else shown


def table(film: Film, first: int, entries: list[int], bits: int) -> Dataset:
    return lut_item(
        first,
        entries,
        bits,
        descriptor_vr=film.descriptor_vr,
        data_vr=film.lut_vr,
        big=film.syntax == BIG,
    )


def written(film: Film, values: np.ndarray, path: Path) -> Path:
    dataset = grey_film(
        (ROWS, COLUMNS),
        syntax=film.syntax,
        bits=film.bits,
        signed=film.signed,
        inverse=film.inverse,
        padding=film.padding or (),
        padding_vr=film.padding_vr,
    )
    if film.has_table:
        dataset.ModalityLUTSequence = Sequence([table(film, film.lowest, film.modality, 16)])
    else:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(film.slope), str(film.intercept)
    if film.voi == "TABLE":
        dataset.VOILUTSequence = Sequence([table(film, *voi_table(film), 16)])
    else:
        low, high = modality_range(film)
        dataset.WindowCenter, dataset.WindowWidth = str((low + high) / 2), str(high - low)
        dataset.VOILUTFunction = film.voi
    return save_film(dataset, values, path)


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(film=films())
@example(film=Film(BIG, True, 12, (-2048, -2048), "US", 1.0, 0.0, True, "LINEAR", "OW", "SS", False))
@example(film=Film(BIG, False, 12, None, "US", 1.0, -1024.0, False, "TABLE", "OW", "US", True))
@example(film=Film(LITTLE, True, 16, (-32768, -32768), "US", 1.0, 0.0, False, "SIGMOID", "US", "US", False))
def test_a_film_is_shown_as_the_standard_says(tmp_path: Path, film: Film) -> None:
    values = drawn(film)
    header = read_header(written(film, values, tmp_path / "film.dcm"), LIMITS)
    stored = stored_values(header, declared_pixels(header, LIMITS), 0, LIMITS)
    np.testing.assert_array_equal(stored, values)
    shown = display(stored, header.dataset, little=header.little)
    known = {value: shown_value(film, value) for value in set(values.reshape(-1).tolist())}
    wanted = np.vectorize(known.__getitem__)(values)
    np.testing.assert_allclose(shown, wanted, atol=2e-4)


@pytest.mark.parametrize("big", [False, True])
def test_packed_entries_lie_in_words(*, big: bool) -> None:
    """PS3.5 7.3: the bytes of a word of OW are swapped in a big-endian file, whatever lies in them."""
    entries = np.arange(256, dtype=np.uint8)
    words = entries.reshape(-1, 2)[:, ::-1].tobytes() if big else entries.tobytes()
    item = Dataset()
    item.add_new(0x00283002, "US", [256, 0, 8])
    item.add_new(0x00283006, "OW", words)
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.VOILUTSequence = "MONOCHROME2", Sequence([item])
    film = np.arange(4096, dtype=np.uint16).reshape(64, 64) % 256
    shown = display(film, dataset, little=not big)
    np.testing.assert_allclose(shown, film / 255, atol=1e-6)
