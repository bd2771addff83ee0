"""One archive of every kind: what a served model reads reaches FHIR and the page, the rest is refused in words."""

import base64
import html
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from tests.ct_series import ROOT, enhanced, stack, write_series
from tests.faulty_endpoint import faulty_endpoint
from tests.kind_samples import write_picture
from tests.servers import free_port, orthanc, store_over_rest
from tests.sites import environment, firstread, rows, running, summary, troubles, until, write_site

GREY = np.tile(np.linspace(0, 250, 128, dtype=np.uint8), (96, 1))
COLOURS = np.zeros((80, 90, 3), np.uint8)
COLOURS[:40], COLOURS[40:] = (200, 120, 90), (60, 30, 20)
SINGLE: dict[str, tuple[str, str, Any, dict[str, Any], str]] = {
    "skin": ("77.1.4", "XC", COLOURS, {}, "Photograph"),
    "mole": ("77.1.7", "DMS", COLOURS, {}, "Dermoscopic picture"),
    "eye": ("77.1.5.1", "OP", COLOURS, {"ImageLaterality": "L"}, "Eye photograph (left)"),
    "hand": (
        "1.1",
        "DX",
        GREY,
        {"BodyPartExamined": "HAND", "ImageLaterality": "R"},
        "Radiograph of the right hand",
    ),
    "tooth": ("1.3", "IO", GREY, {"BodyPartExamined": "JAW"}, "Dental radiograph of the jaw"),
    "liver": ("6.1", "US", GREY, {"BodyPartExamined": "LIVER"}, "Ultrasound picture of the liver"),
}
"""Name, class, Modality, pixels, further attributes, and what stands under the picture."""
SEVERAL = {
    "retina": ("77.1.5.4", "OPT", 5, "OCT of the eye, frame {} of 5"),
    "bones": ("20", "NM", 4, "Nuclear medicine image, frame {} of 4"),
    "slabs": ("13.1.3", "MG", 6, "Breast tomosynthesis, frame {} of 6"),
    "heart": ("3.1", "US", 8, "Ultrasound clip, frame {} of 8"),
    "vessel": ("12.1", "XA", 7, "Angiogram, frame {} of 7"),
    "gullet": ("12.2", "RF", 3, "Fluoroscopy, frame {} of 3"),
}
VIEWS = [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
REFUSED = {
    "dose": ("88.67", "SR", "a radiation dose report and no image"),
    "letter": ("104.1", "DOC", "a PDF and no image"),
    "mask": ("66.4", "SEG", "a segmentation and no image"),
}


def frames_of(count: int) -> np.ndarray[Any, Any]:
    """Frames that grow brighter: [count, rows, columns]."""
    return np.stack([GREY // 4 + 20 * number for number in range(count)])


def ct_with_more(folder: Path) -> list[Path]:
    """A CT of three series, with a localiser and a dose sheet: 12 + 6 + 5 planes, one, and one."""
    axial = write_series(folder / "axial", stack(12, rows=64, columns=64), study="whole")
    thin = write_series(
        folder / "thin", stack(6, step=(0, 0, 1.0), rows=64, columns=64), study="whole", series="2"
    )
    side = stack(5, step=(2.0, 0, 0), cosines=(0, 1, 0, 0, 0, -1), rows=64, columns=64)
    sagittal = write_series(folder / "side", side, study="whole", series="3")
    scout = [
        one.with_extra(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        for one in stack(1, rows=64, columns=64)
    ]
    localiser = write_series(folder / "scout", scout, study="whole", series="4")
    sheet = dcmread(str(get_testdata_file("test-SR.dcm")))
    first = dcmread(axial[0])
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(sheet, keyword, getattr(first, keyword))
    sheet.SeriesInstanceUID = f"{first.SeriesInstanceUID}.9"
    sheet.SOPClassUID = sheet.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}88.67")
    sheet.save_as(folder / "sheet.dcm", enforce_file_format=True)
    return [*axial, *thin, *sagittal, *localiser, folder / "sheet.dcm"]


def written(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
    """The files of every study by name, and of those that are read what stands under its pictures."""
    files: dict[str, list[Path]] = {}
    under: dict[str, list[str]] = {}
    for name, (suffix, modality, pixels, more, words) in SINGLE.items():
        files[name] = [write_picture(folder / f"{name}.dcm", suffix, modality, pixels, name, **more)]
        under[name] = [words]
    for name, (suffix, modality, count, words) in SEVERAL.items():
        files[name] = [
            write_picture(folder / f"{name}.dcm", suffix, modality, GREY, name, frames=frames_of(count))
        ]
        under[name] = [words.format(number + 1) for number in range(count)]
    files["breasts"] = [
        write_picture(
            folder / f"breast-{number}.dcm", "1.2", "MG", GREY, "breasts", instance=number + 1,
            ImageLaterality=side, ViewPosition=view,
        )
        for number, (side, view) in enumerate(VIEWS)
    ]  # fmt: skip
    sides = {"L": "left", "R": "right"}
    under["breasts"] = [f"Mammogram ({sides[side]}), {view}" for side, view in VIEWS]
    for name, modality, suffix, shown in (
        ("enhanced-ct", "CT", "2.1", "window -160 to 240 HU"), ("enhanced-mr", "MR", "4.1", "values "),
    ):  # fmt: skip
        planes = write_series(folder / name, stack(4, rows=64, columns=64), study=name, modality=modality)
        files[name] = [enhanced(planes, folder / f"{name}.dcm", suffix)]
        under[name] = [f"{modality}, axial, plane {number} of 4, {shown}" for number in range(1, 5)]
    files["whole"] = ct_with_more(folder / "whole")
    under["whole"] = [f"CT, axial, plane {number} of 12, window -160 to 240 HU" for number in range(1, 13)]
    for name, (suffix, modality, _) in REFUSED.items():
        files[name] = [write_picture(folder / f"{name}.dcm", suffix, modality, GREY, name)]
    return files, under


@pytest.fixture
def site(database_url: str, prefect_url: str, tmp_path: Path) -> Iterator[tuple[Any, ...]]:
    """One sweep over the archive: names by Study Instance UID, captions, what the model was sent, and the page."""
    files, under = written(tmp_path / "files")
    names = {
        str(dcmread(one[0], stop_before_pixels=True).StudyInstanceUID): name for name, one in files.items()
    }
    port = free_port()
    with orthanc(tmp_path / "orthanc") as peer, faulty_endpoint() as server:
        store_over_rest(peer, *(path for one in files.values() for path in one))
        tables = {
            "model": {"id": "openai-endpoint", "accept_use_limits": True},
            "model.endpoint": {"url": server.url, "model": "served"},
            "serve": {"port": port},
        }
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": peer.dicomweb}}, **tables
        )
        done = firstread("run", "--json", "--config", str(config), cwd=tmp_path, prefect_api=prefect_url)
        tally = summary(done)
    counts = [tally[one] for one in ("reported", "skipped", "failed")]
    assert counts == [len(under), len(REFUSED), 0], troubles(database_url)
    command = [str(Path(sys.executable).with_name("firstread")), "serve", "--config", str(config)]
    log = tmp_path / "serve.log"
    with running(command, log, cwd=tmp_path, env=environment()):
        until(lambda: "review page" in log.read_text(), "the page")
        yield names, under, server.bodies, f"http://127.0.0.1:{port}"


def test_every_kind_goes_from_the_archive_to_the_page(site: tuple[Any, ...], database_url: str) -> None:
    names, under, bodies, address = site
    assert sorted(map(count_sent, bodies)) == sorted(map(len, under.values()))
    reports = {
        names[uid]: (report, left_out, completeness)
        for uid, report, left_out, completeness in rows(
            database_url,
            "SELECT study_instance_uid, report_id, left_out, completeness FROM firstread.report_version",
        )
    }
    for name, wanted in under.items():
        page = html.unescape(httpx.get(f"{address}/reports/{reports[name][0]}").text)
        found = re.findall(r"<figcaption>(?:Image \d+\. )?(.*?)\. Preview of", page)
        assert len(found) == len(wanted), name
        assert all(one.startswith(said) for one, said in zip(found, wanted, strict=True)), (name, found)
        assert httpx.get(f"{address}/fhir/DiagnosticReport/{reports[name][0]}").json()["status"] == "partial"
    _, left_out, completeness = reports["whole"]
    assert (completeness["announced"], completeness["held"], completeness["missing"]) == (25, 24, [])
    codes = sorted(one["code"] for one in left_out)
    assert codes == sorted(["not-retrieved", "not-a-plane", *["other-series"] * 11])
    (sheet,) = [one["message"] for one in left_out if one["code"] == "not-retrieved"]
    assert sheet.startswith("a radiation dose report by the archive's list"), "it says what stayed there"
    report = httpx.get(f"{address}/fhir/DiagnosticReport/{reports['whole'][0]}").json()
    listed = httpx.get(f"{address}/fhir/{report['imagingStudy'][0]['reference']}").json()
    assert (listed["numberOfSeries"], listed["numberOfInstances"]) == (5, 25)
    assert sorted(one["modality"]["code"] for one in listed["series"]) == ["CT", "CT", "CT", "CT", "SR"]
    colours = [picture for body in bodies for picture in sent(body) if picture.mode == "RGB"]
    assert len(colours) == 3
    assert all(np.array_equal(np.asarray(one), COLOURS) for one in colours)
    refused = dict(
        rows(database_url, "SELECT study_instance_uid, reason FROM firstread.studies WHERE state = 'skipped'")
    )
    assert {names[uid] for uid in refused} == set(REFUSED)
    for uid, reason in refused.items():
        what = REFUSED[names[uid]][2].removesuffix(" and no image")
        assert what in reason, reason
        assert "openai-endpoint reads frontal chest films" in reason, "and what is read"


def count_sent(body: dict[str, Any]) -> int:
    return len(sent(body))


def sent(body: dict[str, Any]) -> list[Image.Image]:
    """The pictures of a chat, decoded."""
    parts = [
        part for turn in body["messages"] if isinstance(turn["content"], list) for part in turn["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
