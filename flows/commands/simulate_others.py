"""Two studies of the demo's archive that are no films: drawings of a CT of the head and of a photograph of the skin."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom_writer import RadiographHeader, uid_from
from pipeline.dicom_writer_others import write_ct_plane, write_photograph

PLANES, SIDE = 8, 128
STEP_MM, PIXEL_MM = 5.0, 1.8
_AIR, _SKULL, _BRAIN, _VENTRICLE = -1000, 900, 35, 5


def write_head_ct(folder: Path, header: RadiographHeader) -> tuple[Path, ...]:
    """Eight axial planes of an ellipsoid head, from the chin up."""
    paths = []
    for number in range(PLANES):
        said = replace(
            header, description="CT head", body_part="HEAD", window=(40.0, 80.0), spacing_mm=(PIXEL_MM, PIXEL_MM),
            instance_number=number + 1, sop_instance_uid=uid_from(header.sop_instance_uid, str(number + 1)),
        )  # fmt: skip
        paths.append(folder / f"{number + 1}.dcm")
        write_ct_plane(paths[-1], head(number), said, place_mm=number * STEP_MM, step_mm=STEP_MM)
    return tuple(paths)


def write_skin_photograph(folder: Path, header: RadiographHeader) -> tuple[Path, ...]:
    """One picture in colours: skin with a dark spot."""
    path = folder / "1.dcm"
    said = replace(
        header, description="Photograph of the skin", body_part="SKIN",
        sop_instance_uid=uid_from(header.sop_instance_uid, "1"),
    )  # fmt: skip
    write_photograph(path, skin(), said)
    return (path,)


def head(plane: int) -> NDArray[np.int16]:
    """HU [side, side]: skull, brain and ventricles of an ellipsoid, smaller towards both ends."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shrink = np.sqrt(1 - ((plane - PLANES / 2 + 0.5) / PLANES * 1.2) ** 2)
    from_centre = np.hypot(x / 0.62, y / 0.8) / shrink
    values = np.where(from_centre < 1, _SKULL, _AIR)
    values = np.where(from_centre < 0.9, _BRAIN, values)
    ventricles = (np.hypot((np.abs(x) - 0.1) / 0.06, y / 0.2) / shrink < 1) & (plane > 2) & (plane < 6)
    return np.where(ventricles, _VENTRICLE, values).astype(np.int16)


def skin() -> NDArray[np.uint8]:
    """sRGB [side, side, 3]."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    spot = (np.hypot(x - 0.1, y + 0.05) < 0.25)[..., None]
    light = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE, 1))
    return np.clip(np.where(spot, (92, 54, 46), (222, 178, 154)) + light, 0, 255).astype(np.uint8)
