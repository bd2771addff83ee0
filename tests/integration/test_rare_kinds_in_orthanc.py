"""What is rare goes through Orthanc as it is: by DICOMweb, C-MOVE and C-GET a model sees what it sees of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from pipeline.archive.opening import open_archive
from pipeline.errors import RetryLater, SkipStudy
from pipeline.images import prepare_for, read_headers
from pipeline.setting_archives import ArchiveSettings, DicomwebArchive, DimseArchive
from pipeline.study import FetchedStudy, ImageSet
from tests.rare_kinds import READ, REFUSED
from tests.servers import CALLING, LOOPBACK, free_port, orthanc, store_over_rest
from tests.synthetic import fetched
from tests.unit.test_rare_kinds import READER
from tests.unit.test_video import FORMS, ramp, stream, written

ALL = READ | REFUSED
WAYS = ("dicomweb", "move", "get")
UNSENT = {
    *(name for name in READ if name.startswith(("JPEG 2000 of high throughput", "JPEG XL"))),
    "H.264 in a transport stream",
}
"""Stored in syntaxes that this Orthanc (1.10.1) takes and gives over HTTP, and cannot send over DIMSE: its log says
"Unsupported transfer syntax".
"""
VIDEOS = ("H.264 in a transport stream", "HEVC", "MPEG-2")


@dataclass(frozen=True)
class Shelf:
    """Files by the name of their case, and the one Orthanc that holds them all, by each way."""

    files: dict[str, Sequence[Path]]
    ways: dict[str, ArchiveSettings]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("rare")
    files = {name: case.write(folder / f"{number}", name) for number, (name, case) in enumerate(ALL.items())}
    for form in VIDEOS:
        path = folder / f"{form}.dcm"
        files[form] = [written(path, form, stream(form, ramp(20)), frames=20, pieces=3, name=form)]
    port = free_port()
    with orthanc(folder / "peer", move_port=port) as peer:
        store_over_rest(peer, *(path for one in files.values() for path in one))

        def dimse(way: str) -> DimseArchive:
            return DimseArchive.model_validate(
                {
                    "kind": "dimse", "host": LOOPBACK, "port": peer.port, "ae_title": peer.ae_title,
                    "calling_ae_title": CALLING, "retrieve": way, "move_port": port, "stall_timeout": 20,
                    "min_free_gib": 0.1,
                }
            )  # fmt: skip

        web = DicomwebArchive(kind="dicomweb", url=peer.dicomweb, min_free_gib=0.1)
        yield Shelf(files, {"dicomweb": web, "move": dimse("move"), "get": dimse("get")})


def study_of(paths: Sequence[Path]) -> FetchedStudy:
    uid = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    return replace(fetched(paths[0].parent, list(paths), uid), study_instance_uid=uid)


def seen(study: FetchedStudy) -> ImageSet | str:
    try:
        return prepare_for(study, read_headers(study), READER)[1]
    except SkipStudy as reason:
        return reason.message


@pytest.mark.parametrize("way", WAYS)
def test_what_a_model_sees_does_not_depend_on_the_way(way: str, shelf: Shelf, tmp_path: Path) -> None:
    wrong: list[tuple[str, str, str]] = []
    with open_archive("shelf", shelf.ways[way]) as archive:
        for number, (name, paths) in enumerate(shelf.files.items()):
            of_files = study_of(paths)
            try:
                brought = archive.fetch(of_files.study_instance_uid, tmp_path / f"{number}")
            except RetryLater as reason:
                wrong.append((name, "sent", reason.message))
                continue
            if not brought.complete or len(brought.held) != len(paths):
                wrong.append((name, "held", f"{len(brought.held)} {brought.damaged}"))
            elif not alike(seen(of_files), seen(brought)):
                wrong.append((name, "seen", str(seen(brought))[:200]))
    unsent = {(name, what) for name, what, _ in wrong}
    assert unsent == (set() if way == "dicomweb" else {(name, "sent") for name in UNSENT}), wrong


def alike(one: ImageSet | str, other: ImageSet | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return (
        [image.caption for image in one.images] == [image.caption for image in other.images]
        and one.remarks == other.remarks
        and all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one.images, other.images, strict=True))
    )


def test_the_videos_are_of_what_they_are_called() -> None:
    assert {FORMS[form][1].split(".")[7] for form in VIDEOS} == {"100", "103", "107"}
