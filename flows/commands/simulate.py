"""Simulated studies as DICOM files: any number for load and evaluation, and the demo's sample archive.

All patients are invented. The same seed writes the same pixels, UIDs and truth. Beside the studies lies
``truth.jsonl``, one line per study: its UIDs, what was put on the film (kind, side, severity, zone, box in
pixels x1, y1, x2, y2) and the report that says so.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flows.commands.simulate_others import write_head_ct, write_skin_photograph
from models.simulation.film import MAX_VALUE, FilmFinding, SimulatedFilm, render
from pipeline.dicom_writer import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    RadiographHeader,
    fictitious_moment,
    uid_from,
    write_radiograph,
)

BITS_STORED = MAX_VALUE.bit_length()
WINDOW = ((MAX_VALUE + 1) / 2, float(MAX_VALUE + 1))
SYNTAXES = (
    EXPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    EXPLICIT_LITTLE,
    JPEG_LS_LOSSLESS,
    IMPLICIT_LITTLE,
    RLE_LOSSLESS,
)
"""Transfer syntaxes of simulated studies, in turn."""
SAMPLE_SEED = 2000
NOT_CHEST, WITH_CORRUPT, IN_JPEG_2000, INVERTED, JAPANESE, PUBLIC, CT, PHOTOGRAPH = 3, 5, 7, 9, 11, 12, 13, 14
"""Which studies of the sample archive (from 0) are special."""
PUBLIC_STUDY = uid_from("sample", str(PUBLIC))
PUBLIC_FILM = Path(__file__).parent / "public_film" / "00008008_061.jpg"
PUBLIC_INSTITUTION = "NIH Clinical Center"
PUBLIC_ORIGIN = (
    "film 00008008_061 of NIH ChestX-ray14, provided by the NIH Clinical Center (Wang et al., CVPR 2017), "
    "published with the labels pleural thickening and pneumothorax"
)
FINGERS = ((0.30, 0.12, 0.40), (0.43, 0.05, 0.47), (0.56, 0.08, 0.54), (0.69, 0.18, 0.61), (0.12, 0.42, 0.36))
"""Tip x and y and root x of each finger drawn, in parts of the film."""


@dataclass(frozen=True, slots=True)
class WrittenStudy:
    """One study on disk and what is on it; ``expected`` is "reported" or "skipped".

    ``origin`` says whose film it is; of a real one nobody put anything on it, and its texts are empty.
    """

    study_instance_uid: str
    sop_instance_uid: str
    paths: tuple[Path, ...]
    expected: str
    findings: tuple[FilmFinding, ...] = ()
    findings_text: str = ""
    impression_text: str = ""
    origin: str = "simulated"


@dataclass(frozen=True, slots=True)
class SimulatedArchive:
    """The studies written, in order, and where the truth about them lies."""

    studies: tuple[WrittenStudy, ...]
    truth: Path


def simulate(
    studies: int,
    out: Path,
    seed: int = 0,
    *,
    size: int = 512,
    progress: Callable[[int], None] | None = None,
) -> SimulatedArchive:
    """Write ``studies`` studies of one frontal film of ``size`` x ``size`` pixels each under ``out``.

    ``progress`` hears the count so far.
    """
    written = []
    for number in range(studies):
        header = _header(f"simulated-{seed}", number)
        film = render(seed * 1_000_003 + number, size=size, held_out=True)
        photometric = "MONOCHROME1" if number % 8 == 7 else "MONOCHROME2"
        written.append(
            _write(
                out, header, film, transfer_syntax=SYNTAXES[number % len(SYNTAXES)], photometric=photometric
            )
        )
        if progress is not None:
            progress(number + 1)
    return SimulatedArchive(tuple(written), _write_truth(out, written))


def sample_archive(out: Path) -> SimulatedArchive:
    """Write the demo's fifteen studies under ``out``: fourteen simulated, and a real film that is public.

    One is a hand, one a CT of the head, one a photograph of the skin; one holds a second film whose pixels are cut
    short; one is in JPEG 2000, one in MONOCHROME1, and one patient's name has ideographic and phonetic groups in ISO
    2022.
    """
    written = []
    for number in range(12):
        header = _header("sample", number)
        if number == NOT_CHEST:
            written.append(_write_hand(out, header))
            continue
        film = render(SAMPLE_SEED + number, held_out=True)
        if number == JAPANESE:
            header = replace(
                header,
                patient_name="Rei^Tarou=例^太郎=れい^たろう",
                character_set=("", "ISO 2022 IR 87"),
            )
        syntax = JPEG_2000_LOSSLESS if number == IN_JPEG_2000 else EXPLICIT_LITTLE
        photometric = "MONOCHROME1" if number == INVERTED else "MONOCHROME2"
        study = _write(out, header, film, transfer_syntax=syntax, photometric=photometric)
        written.append(_with_corrupt(study, header, film) if number == WITH_CORRUPT else study)
    written.append(_write_public(out, _header("sample", PUBLIC)))
    for number, write in ((CT, write_head_ct), (PHOTOGRAPH, write_skin_photograph)):
        header = _header("sample", number)
        paths = write(out / header.accession_number, header)
        uid = uid_from(header.sop_instance_uid, "1")
        written.append(WrittenStudy(header.study_instance_uid, uid, paths, "skipped"))
    return SimulatedArchive(tuple(written), _write_truth(out, written))


def _header(archive: str, number: int) -> RadiographHeader:
    digital = number % 2 == 0
    return RadiographHeader(
        study_instance_uid=uid_from(archive, str(number)),
        series_instance_uid=uid_from(archive, str(number), "1"),
        sop_instance_uid=uid_from(archive, str(number), "1", "1"),
        patient_id=f"FICTITIOUS-{number + 1:04d}",
        patient_name=f"Fictitious^Patient {number + 1:04d}",
        accession_number=f"SIM{number + 1:06d}",
        started=fictitious_moment(number),
        birth_date=date(1940, 1, 1) + timedelta(days=523 * (number % 40)),
        sex="FM"[number % 2],
        modality="DX" if digital else "CR",
        window=WINDOW,
    )


def _write(
    out: Path, header: RadiographHeader, film: SimulatedFilm, *, transfer_syntax: str, photometric: str
) -> WrittenStudy:
    path = _path(out, header)
    write_radiograph(
        path,
        film.pixels,
        header,
        transfer_syntax=transfer_syntax,
        photometric=photometric,
        bits_stored=BITS_STORED,
    )
    return WrittenStudy(
        header.study_instance_uid,
        header.sop_instance_uid,
        (path,),
        "reported",
        film.findings,
        film.findings_text,
        film.impression_text,
    )


def _with_corrupt(study: WrittenStudy, header: RadiographHeader, film: SimulatedFilm) -> WrittenStudy:
    """The study with a second instance whose pixel data is shorter than its header declares."""
    second = replace(
        header,
        sop_instance_uid=uid_from(header.sop_instance_uid, "corrupt"),
        instance_number=2,
        acquired=header.started + timedelta(minutes=2),
    )
    path = study.paths[0].with_name("2.dcm")
    half = film.pixels[: len(film.pixels) // 2]
    write_radiograph(path, half, second, bits_stored=BITS_STORED, declared_rows=len(film.pixels))
    return replace(study, paths=(*study.paths, path))


def _write_hand(out: Path, header: RadiographHeader) -> WrittenStudy:
    hand = replace(header, body_part="HAND", description="Left hand PA", laterality="L")
    path = _path(out, hand)
    write_radiograph(path, hand_pixels(), hand, bits_stored=BITS_STORED)
    return WrittenStudy(hand.study_instance_uid, hand.sop_instance_uid, (path,), "skipped")


def _write_public(out: Path, header: RadiographHeader) -> WrittenStudy:
    """The real film under an invented patient: of the person whose chest it is nothing is known here."""
    film = replace(header, description="Chest PA (public film)", institution=PUBLIC_INSTITUTION)
    path = _path(out, film)
    with Image.open(PUBLIC_FILM) as picture:
        greys = np.asarray(picture.convert("L"))
    write_radiograph(path, greys, replace(film, window=(128.0, 256.0)))
    return WrittenStudy(
        film.study_instance_uid, film.sop_instance_uid, (path,), "reported", origin=PUBLIC_ORIGIN
    )


def _path(out: Path, header: RadiographHeader) -> Path:
    return out / header.accession_number / f"{header.instance_number}.dcm"


def hand_pixels(size: int = 512) -> NDArray[np.uint16]:
    """A drawing of a hand, 12 bits [size, size], bones bright: it must look like no chest."""
    film = np.full((size, size), 0.03)
    for tip_x, tip_y, root_x in FINGERS:
        _draw_rod(film, (tip_x, tip_y), (root_x, 0.62), 0.055, 0.35)
        for start, end in pairwise(np.linspace(0.03, 0.97, 5)):
            joints = [
                (tip_x + (root_x - tip_x) * t, tip_y + (0.74 - tip_y) * t)
                for t in (start + 0.015, end - 0.015)
            ]
            _draw_rod(film, joints[0], joints[1], 0.022, 0.8)
    _draw_rod(film, (0.47, 0.64), (0.5, 0.84), 0.15, 0.35)
    for bone_x in (0.43, 0.56):
        _draw_rod(film, (bone_x, 0.86), (bone_x, 1.1), 0.04, 0.85)
    film += np.random.default_rng(0).normal(0, 0.01, film.shape)
    stored: NDArray[np.uint16] = np.rint(np.clip(film, 0, 1) * MAX_VALUE).astype(np.uint16)
    return stored


def _draw_rod(
    film: NDArray[np.float64],
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
    level: float,
) -> None:
    """Raise ``film`` to ``level`` along the rod from ``start`` to ``end`` (x, y in parts of the film)."""
    y, x = np.mgrid[0 : film.shape[0], 0 : film.shape[1]] / film.shape[0]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
    np.maximum(film, level * np.clip((radius - distance) / (radius * 0.3), 0, 1), out=film)


def _write_truth(out: Path, studies: Iterable[WrittenStudy]) -> Path:
    path = out / "truth.jsonl"
    lines = [json.dumps(_truth(out, study), ensure_ascii=False) for study in studies]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def _truth(out: Path, study: WrittenStudy) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "sop_instance_uid": study.sop_instance_uid,
        "paths": [path.relative_to(out).as_posix() for path in study.paths],
        "expected": study.expected,
        "origin": study.origin,
        "findings": [asdict(finding) for finding in study.findings],
        "findings_text": study.findings_text,
        "impression_text": study.impression_text,
    }
