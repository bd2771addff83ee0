"""Films that use a part of their range, with tables and windows anywhere, through a file in each byte order, against a
plain reading of the standard (PS3.3 C.7.5.1.1.2, C.11.1, C.11.2, C.7.6.3.1.2; PS3.5 7.3).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydicom.sequence import Sequence

from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.grey import display
from pipeline.images.headers import read_header
from tests.grey_films import BIG, IMPLICIT, LIMITS, LITTLE, grey_film, lut_item, save_film, windowed

SIDE = 24


@dataclass(frozen=True)
class Table:
    """A VOI LUT as it is meant, and how it is written."""

    first: int
    entries: tuple[int, ...]
    bits: int
    data_vr: str
    descriptor_vr: str


@dataclass(frozen=True)
class Film:
    """Stored values from ``low`` to ``high`` of a film of ``bits``, and one way to display values."""

    syntax: str
    signed: bool
    bits: int
    low: int
    high: int
    padding: tuple[int, int | None] | None
    padding_vr: str
    slope: float
    intercept: float
    voi: Table | tuple[str, float, float]
    inverse: bool

    def modality(self, value: float) -> float:
        return value * self.slope + self.intercept

    @property
    def output_is_signed(self) -> bool:
        """PS3.3 C.11.2.1.1: whether the Modality LUT step may give a negative value."""
        lowest = -(1 << self.bits - 1) if self.signed else 0
        return min(self.modality(lowest), self.modality(lowest + (1 << self.bits) - 1)) < 0

    def is_padding(self, value: int) -> bool:
        if self.padding is None:
            return False
        first, last = self.padding
        last = first if last is None else last
        return min(first, last) <= value <= max(first, last)


@st.composite
def films(draw: st.DrawFn) -> Film:
    signed, bits = draw(st.booleans()), draw(st.integers(8, 16))
    lowest = -(1 << bits - 1) if signed else 0
    highest = lowest + (1 << bits) - 1
    low = draw(st.integers(lowest, highest - 100))
    high = draw(st.integers(low + 60, highest))
    padding = None
    if draw(st.booleans()):
        first = draw(st.integers(lowest, highest) | st.sampled_from([lowest, highest, low]))
        limit = draw(st.none() | st.integers(max(lowest, first - 20), min(highest, first + 20)))
        padding = (first, limit)
    slope = draw(st.sampled_from([1.0, 1.0, 2.0, 0.25, -1.0]))
    intercept = draw(st.sampled_from([0.0, 0.0, -1024.0, 300.0, -32768.0]))
    film = Film(
        syntax=draw(st.sampled_from([IMPLICIT, LITTLE, BIG])),
        signed=signed,
        bits=bits,
        low=low,
        high=high,
        padding=padding,
        padding_vr=draw(st.sampled_from(["US", "SS"])),
        slope=slope,
        intercept=intercept,
        voi=("LINEAR", 0.0, 0.0),
        inverse=draw(st.booleans()),
    )
    ends = sorted((film.modality(low), film.modality(high)))
    span = ends[1] - ends[0]
    voi: Table | tuple[str, float, float]
    if slope != 0.25 and draw(st.booleans()):  # the standard says nothing of an index between two entries
        least, most = (-0x8000, 0x7FFF) if film.output_is_signed else (0, 0xFFFF)
        around = (max(least, int(ends[0] - span)), min(most, int(ends[1])))
        assume(around[0] < around[1])
        first = draw(st.integers(*around))
        count = draw(st.integers(16, max(17, min(20_000, int(2 * span)))))
        depth = draw(st.integers(8, 16))
        step = draw(st.floats(0.3, 3.0))
        top = (1 << depth) - 1
        entries = tuple(min(top, int(step * at * top / count)) for at in range(count))
        voi = Table(first, entries, depth, draw(st.sampled_from(["US", "SS", "OW"])),
                    draw(st.sampled_from(["US", "SS"])))  # fmt: skip
    else:
        center = ends[0] + span * draw(st.floats(-0.2, 1.2))
        width = span * draw(st.floats(0.3, 400.0))
        assume(width >= 2)
        voi = (
            draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])),
            float(f"{center:.6g}"),
            float(f"{width:.6g}"),
        )
    return Film(**{**film.__dict__, "voi": voi})


def voi_value(film: Film, x: float) -> float:
    """0..1 as PS3.3 C.11.2.1 prints it; the largest entry of a table is white."""
    if isinstance(film.voi, Table):
        at = min(max(math.floor(x - film.voi.first + 0.5), 0), len(film.voi.entries) - 1)
        return film.voi.entries[at] / max(film.voi.entries)
    return windowed(*film.voi, x)


def drawn(film: Film) -> np.ndarray:
    values = np.linspace(film.low, film.high, SIDE * SIDE).round().astype(np.int64)
    if film.padding is not None:
        values[::9] = film.padding[0]
    return values.reshape(SIDE, SIDE)


def written(film: Film, values: np.ndarray, path: Path) -> Path:
    dataset = grey_film(
        (SIDE, SIDE),
        syntax=film.syntax,
        bits=film.bits,
        signed=film.signed,
        inverse=film.inverse,
        padding=film.padding or (),
        padding_vr=film.padding_vr,
    )
    dataset.RescaleSlope, dataset.RescaleIntercept = str(film.slope), str(film.intercept)
    if isinstance(film.voi, Table):
        told = film.voi
        item = lut_item(
            told.first,
            told.entries,
            told.bits,
            descriptor_vr=told.descriptor_vr,
            data_vr=told.data_vr,
            big=film.syntax == BIG,
        )
        dataset.VOILUTSequence = Sequence([item])
    else:
        function, center, width = film.voi
        dataset.VOILUTFunction = function
        dataset.WindowCenter, dataset.WindowWidth = f"{center:.6g}", f"{width:.6g}"
    return save_film(dataset, values, path)


def table_of_signed_output(signed_first: int) -> Film:
    """A film of Hounsfield-like values that holds none below zero, and a table that begins below."""
    entries = tuple(min(4095, at * 2) for at in range(2048))
    voi = Table(signed_first, entries, 12, "OW", "SS")
    return Film(LITTLE, False, 12, 1100, 2900, None, "US", 1.0, -1024.0, voi, False)


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(film=films())
@example(film=table_of_signed_output(-1024))
@example(film=Film(BIG, True, 16, -32768, 32767, (-32768, None), "US", 1.0, 0.0, ("SIGMOID", 0.0, 9e6), True))
def test_a_film_is_shown_as_the_standard_says(tmp_path: Path, film: Film) -> None:
    values = drawn(film)
    seen = [value for value in values.reshape(-1).tolist() if not film.is_padding(value)]
    assume(len(set(seen)) >= 40)
    shown_of = {value: voi_value(film, film.modality(value)) for value in set(seen)}
    for end in (0.0, 1.0):  # what shows next to nothing is not believed: another test
        assume(sum(shown_of[value] == end for value in seen) < 0.9 * len(seen))
    header = read_header(written(film, values, tmp_path / "film.dcm"), LIMITS)
    stored = stored_values(header, declared_pixels(header, LIMITS), 0, LIMITS)
    np.testing.assert_array_equal(stored, values)
    shown = display(stored, header.dataset, little=header.little)
    wanted = [
        0.0 if film.is_padding(value) else (1 - shown_of[value] if film.inverse else shown_of[value])
        for value in values.reshape(-1).tolist()
    ]
    np.testing.assert_allclose(shown.reshape(-1), wanted, atol=2e-4)
