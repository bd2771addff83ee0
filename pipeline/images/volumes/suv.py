"""From the values of a PET series to standardized uptake by body weight (SUVbw, g/mL), or the reason why not.

The rules are those that QIBA's FDG-PET group published as vendor-neutral pseudo-code (SUV, "happy path only"), and what
it leaves open is refused: nothing is assumed of a dose, a weight, a correction or a time. Attributes: PS3.3 C.8.9.1,
C.8.9.2 and C.8.9.4, of enhanced objects C.8.22; the rescale of each plane comes before the factor. A Real World Value
Mapping to SUVbw, which newer scanners write, comes before all: it is the maker's own factor.
"""

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone

from pydicom.dataset import Dataset

from pipeline.images.choose import Reason
from pipeline.images.clock import read_time
from pipeline.images.headers import Elements, items, numbers, private_value, read_date, text, texts
from pipeline.images.volumes.plane import Plane, said
from pipeline.images.volumes.real_world import mapped_factor
from pipeline.study import LeftOutReason

CLASSIC_PET, CONVERTED_PET, ENHANCED_PET = (
    f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("128", "128.1", "130")
)
MEGABECQUEREL = (1.0, 1e5)
"""Doses that are believed in an enhanced object, which says them in MBq (PS3.3 C.8.22.4)."""
KILOGRAMS = (0.3, 700.0)
LEAST_DOSE = 1e5
"""Becquerel; below it the dose is in another unit."""
LONG_HALF_LIFE = 6 * 3600.0
"""Seconds; with a longer one patients are imaged on later days too, and a time without a date says nothing."""
MOST_HALF_LIVES = 10.0
"""Between injection and scan: beyond, nothing is left to image, and one of the times is wrong."""
_PHILIPS, _GE = (0x7053, "Philips PET Private Group"), (0x0009, "GEMS_PETD_01")
_SAME = (
    "SOPClassUID", "Units", "SUVType", "CorrectedImage", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime",
)  # fmt: skip
_TOLD = (
    *_SAME, "RadiopharmaceuticalInformationSequence", "AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC",
)  # fmt: skip
Factor = float | Reason


def suv_factor(planes: Sequence[Plane]) -> Factor:
    """What the values of the planes of one series, each after its own rescale, are multiplied by to be SUVbw.

    A Reason ("no-suv") where the headers do not allow it to be computed.
    """
    mapped = mapped_factor(planes)
    if mapped is not None:
        return mapped
    made_as = text(planes[0].header.dataset, "SOPClassUID")
    if made_as == ENHANCED_PET:
        return _of_enhanced(planes)
    converted = made_as == CONVERTED_PET
    datasets = [_as_classic(plane) if converted else plane.header.dataset for plane in planes]
    first = datasets[0]
    if any(text(one, keyword) != text(first, keyword) for one in datasets for keyword in _SAME):
        return _no("its planes disagree on the unit, the corrections, the weight or the time of the series")
    if text(first, "SOPClassUID") not in (CLASSIC_PET, CONVERTED_PET):
        return _no("it is no PET image by its class")
    corrected = {one.upper() for one in texts(first, "CorrectedImage")}
    if not corrected >= {"ATTN", "DECY"}:
        return _no("its values are not corrected for attenuation and decay (Corrected Image)")
    by_unit = _BY_UNIT.get(text(first, "Units").upper())
    if by_unit is None:
        return _no("its Units are none that lead to an uptake")
    return by_unit(datasets)


def _of_enhanced(planes: Sequence[Plane]) -> Factor:
    """Bq/mL of an enhanced object, decay corrected to a moment that it names (PS3.3 C.8.22.3 and C.8.22.4)."""
    dataset = planes[0].header.dataset
    if any(text(dataset, one).upper() != "YES" for one in ("DecayCorrected", "AttenuationCorrected")):
        return _no("its values are not said to be corrected for attenuation and decay")
    if {plane.unit for plane in planes} != {"BQML"}:
        return _no("its values are not in Bq/mL (Rescale Type)")
    weight = (*numbers(dataset, "PatientWeight"), 0.0)[0]
    if not KILOGRAMS[0] <= weight <= KILOGRAMS[1]:
        return _no("Patient's Weight is missing or cannot be")
    administered = items(dataset, "RadiopharmaceuticalInformationSequence")
    if len(administered) != 1:
        return _no("it does not name one radiopharmaceutical")
    dose, half_life = (
        (*numbers(administered[0], keyword), 0.0)[0]
        for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife")
    )
    if not MEGABECQUEREL[0] <= dose <= MEGABECQUEREL[1]:
        return _no("the dose is missing or not in megabecquerel (Radionuclide Total Dose)")
    zone = text(dataset, "TimezoneOffsetFromUTC")
    corrected = _date_time(text(dataset, "DecayCorrectionDateTime"), zone)
    injected = _date_time(text(administered[0], "RadiopharmaceuticalStartDateTime"), zone)
    if corrected is None or injected is None or half_life <= 0:
        return _no("the half-life, the time of the injection or that of the decay correction is missing")
    seconds = (corrected - injected).total_seconds()
    if not 0 <= seconds <= MOST_HALF_LIVES * half_life:
        return _no("the injection lies after the scan, or too long before it")
    return weight * 1000 / (dose * 1e6 * math.pow(2.0, -seconds / half_life))


def _as_classic(plane: Plane) -> Dataset:
    """What the factor rests on of a frame that was converted from a classic image (PS3.3 A.72, C.7.6.16.2.25.1)."""
    found = Dataset()
    for keyword in _TOLD:
        values = next((value for group in plane.groups if (value := group.get(keyword)) is not None), None)
        if values is not None:
            setattr(found, keyword, values)
    acquired = said(plane.groups, "FrameContentSequence", "FrameAcquisitionDateTime")
    if acquired and not text(found, "AcquisitionTime"):
        found.AcquisitionDate, found.AcquisitionTime = acquired[:8], acquired[8:].partition("+")[0]
    return found


def _of_uptake(datasets: Sequence[Elements]) -> Factor:
    """GML: the values are uptakes already, of body weight where SUV Type is not said (PS3.3 C.8.9.1)."""
    if text(datasets[0], "SUVType").upper() not in ("", "BW"):
        return _no("its uptake is by lean body mass or body surface (SUV Type)")
    return 1.0


def _of_counts(datasets: Sequence[Elements]) -> Factor:
    """CNTS: Philips keeps the factor to an uptake or to Bq/mL in private elements."""
    for element, following in ((0x00, lambda _: 1.0), (0x09, _of_activity)):
        factors = {private_value(one, _PHILIPS, element) for one in datasets}
        factor = _positive(factors.pop()) if len(factors) == 1 else None
        if factor is not None:
            rest = following(datasets)
            return rest if isinstance(rest, Reason) else factor * rest
        if factors:
            return _no("its planes have several factors from counts to an uptake")
    return _no("its values are counts, without the factor to an uptake")


def _of_activity(datasets: Sequence[Elements]) -> Factor:
    """BQML: weight in grams over the dose that is left at the time to which the images are decay corrected."""
    first = datasets[0]
    weight = (*numbers(first, "PatientWeight"), 0.0)[0]
    if not KILOGRAMS[0] <= weight <= KILOGRAMS[1]:
        return _no("Patient's Weight is missing or cannot be")
    administered = [items(one, "RadiopharmaceuticalInformationSequence") for one in datasets]
    if any(len(one) != 1 for one in administered):
        return _no("it does not name one radiopharmaceutical")
    dose, half_life = (
        {_positive((*numbers(one[0], keyword), None)[0]) for one in administered}
        for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife")
    )
    if len(dose) != 1 or len(half_life) != 1:
        return _no("its planes disagree on the dose or the half-life")
    becquerel, seconds = dose.pop(), half_life.pop()
    if becquerel is None or becquerel < LEAST_DOSE:
        return _no("the dose is missing or not in becquerel (Radionuclide Total Dose)")
    if seconds is None:
        return _no("the half-life is missing (Radionuclide Half Life)")
    decayed = _decay_seconds(datasets, administered[0][0], seconds)
    if isinstance(decayed, Reason):
        return decayed
    return weight * 1000 / (becquerel * math.pow(2.0, -decayed / seconds))


_BY_UNIT: dict[str, Callable[[Sequence[Elements]], Factor]] = {
    "BQML": _of_activity,
    "CNTS": _of_counts,
    "GML": _of_uptake,
}


def _decay_seconds(datasets: Sequence[Elements], administered: Dataset, half_life: float) -> float | Reason:
    """Seconds from the injection to the time that the images are decay corrected to."""
    correction = text(datasets[0], "DecayCorrection").upper()
    if correction == "ADMIN":
        return 0.0
    if correction != "START":
        return _no("it is not said to which time its decay is corrected (Decay Correction)")
    scanned = _scan_start(datasets)
    if scanned is None:
        return _no("the date or time of its series or of an acquisition is missing")
    injected = _injected(administered, scanned, text(datasets[0], "TimezoneOffsetFromUTC"), half_life)
    if injected is None:
        return _no("the time of the injection is missing, or has no date with a long half-life")
    seconds = (scanned - injected).total_seconds()
    if not 0 <= seconds <= MOST_HALF_LIVES * half_life:
        return _no("the injection lies after the scan, or too long before it")
    return seconds


def _scan_start(datasets: Sequence[Elements]) -> datetime | None:
    """When the scan began: Series Date and Time, but not where they are later than an acquisition.

    Then the series was written anew: GE keeps the time in a private element, else it is that of the first acquisition.
    """
    acquired = [_moment(one, "Acquisition") for one in datasets]
    series = _moment(datasets[0], "Series")
    if not all(acquired):
        return None
    earliest = min(one for one in acquired if one)
    if series is not None and series <= earliest:
        return series
    kept = private_value(datasets[0], _GE, 0x0D)
    return (_date_time(str(kept), "") if kept is not None else None) or earliest


def _injected(administered: Dataset, scanned: datetime, zone: str, half_life: float) -> datetime | None:
    """Radiopharmaceutical Start DateTime, else the last Start Time before the scan, be that before midnight."""
    told = text(administered, "RadiopharmaceuticalStartDateTime")
    if told:
        return _date_time(told, zone)
    clock = read_time(text(administered, "RadiopharmaceuticalStartTime"))
    if clock is None or half_life > LONG_HALF_LIFE:
        return None
    same_day = datetime.combine(scanned.date(), clock)
    return same_day if same_day <= scanned else same_day - timedelta(days=1)


def _moment(dataset: Elements, of: str) -> datetime | None:
    day, clock = read_date(text(dataset, f"{of}Date")), read_time(text(dataset, f"{of}Time"))
    return datetime.combine(day, clock) if day and clock else None


def _date_time(value: str, zone: str) -> datetime | None:
    """A DT value (PS3.5 6.2) to the second, by the clock of ``zone`` ("+0100") where both name theirs."""
    digits, own = value.strip(), ""
    if len(digits) > 5 and digits[-5] in "+-":
        digits, own = digits[:-5], digits[-5:]
    digits = digits.split(".")[0]
    day: date | None = read_date(digits[:8])
    clock = read_time(digits[8:]) if len(digits) > 8 else None
    if day is None or clock is None:
        return None
    moment = datetime.combine(day, clock)
    if _offset(own) is None or _offset(zone) is None:
        return moment
    return moment.replace(tzinfo=_offset(own)).astimezone(_offset(zone)).replace(tzinfo=None)


def _offset(zone: str) -> timezone | None:
    if len(zone) != 5 or zone[0] not in "+-" or not zone[1:].isdecimal() or int(zone[1:]) > 1400:
        return None
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return timezone(-ahead if zone[0] == "-" else ahead)


def _positive(value: object) -> float | None:
    try:
        number = float(str(value).strip(" \0"))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _no(why: str) -> Reason:
    return Reason(LeftOutReason.NO_SUV, f"no SUV: {why}")
