"""Films for the folder archive and the file reader below it, and what is done to them to make them odd."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from pipeline.archive.file_meta import file_header
from pipeline.archive.folder import FolderStudies
from pipeline.dicom_writer import (
    EXPLICIT_LITTLE,
    JPEG_BASELINE,
    uid_from,
)
from pipeline.setting_archives import FolderArchive
from tests.synthetic import chest_pixels, radiograph_header, write_chest

STUDY = uid_from("tests", "folder")
HEADER = radiograph_header("folder", description="x'); DROP TABLE studies; -- <b>../../</b>")


def archive(root: Path) -> FolderStudies:
    return FolderStudies("disk", FolderArchive(kind="folder", path=root, min_free_gib=0.1))


def film(path: Path, syntax: str = EXPLICIT_LITTLE, **changes: Any) -> Path:
    header = radiograph_header("folder", **changes) if changes else HEADER
    pixels = chest_pixels(48, 40)
    if syntax == JPEG_BASELINE:
        return write_chest(
            path, header, pixels=(pixels >> 4).astype("uint8"), transfer_syntax=syntax, bits_stored=8
        )
    return write_chest(path, header, pixels=pixels, transfer_syntax=syntax)


def offset(path: Path) -> int:
    """Where the data set begins."""
    return 144 + int(pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength)


def patched(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def with_syntax(path: Path, syntax: str) -> Path:
    """The same data set under a header that names another transfer syntax."""
    body = path.read_bytes()[offset(path) :]
    path.write_bytes(file_header(HEADER_CLASS, HEADER.sop_instance_uid, syntax) + body)
    return path


HEADER_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"


def without(keyword: str, path: Path) -> Path:
    dataset = pydicom.dcmread(path)
    del dataset[keyword]
    dataset.save_as(path)
    return path


def renamed(path: Path, keyword: str, value: str) -> Path:
    dataset = pydicom.dcmread(path)
    dataset[keyword].value = value
    dataset.save_as(path)
    return path
