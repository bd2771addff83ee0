"""A slide, a clip, a video and a PET travel from one Orthanc to FHIR and the page, by DICOMweb and by C-MOVE."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tests.ct_series import stack, write_series
from tests.faulty_endpoint import faulty_endpoint
from tests.integration.test_sectional_studies import sent, served
from tests.kind_samples import write_picture
from tests.servers import free_port, orthanc, store_over_rest
from tests.sites import firstread, rows, summary, troubles, write_site
from tests.slide_files import drawn, write_level
from tests.unit.test_suv import header as of_pet
from tests.unit.test_video import ramp, stream, written


def slide(folder: Path, name: str) -> list[Path]:
    """Two levels and a label that is red all over."""
    red = np.zeros((128, 128, 3), np.uint8)
    red[..., 0] = 255
    return [
        write_level(folder / "0.dcm", drawn(1024), microns=0.5, name=name),
        write_level(folder / "1.dcm", drawn(512, 2), microns=1.0, full=False, name=name),
        write_level(folder / "2.dcm", red, microns=9.0, flavour="LABEL", name=name),
    ]


def clip(path: Path, name: str) -> Path:
    """Forty colour frames in JPEG, three fragments a frame and no offset table; frame k is of shade 5 k."""
    write_picture(path, "3.1", "US", np.zeros((96, 128, 3), np.uint8), f"media clip {name}")
    dataset = dcmread(path)
    frames = [np.full((96, 128, 3), (5 * k, 5 * k, 40), np.uint8) for k in range(40)]
    encoded = [bytes(imagecodecs.jpeg8_encode(frame, level=95)) for frame in frames]
    dataset.PixelData = encapsulate(encoded, fragments_per_frame=3, has_bot=False)
    dataset["PixelData"].VR = "OB"
    dataset.NumberOfFrames, dataset.PhotometricInterpretation = 40, "YBR_FULL_422"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path, enforce_file_format=True)
    return path


def pet(folder: Path, name: str, **said: object) -> list[Path]:
    planes = stack(4, rows=64, columns=64, intercept=0)
    return write_series(
        folder,
        [plane.with_extra(**of_pet(**said), AcquisitionTime="115000") for plane in planes],
        modality="PT",
        study=f"pet {name}",
        patient=f"TEST-PT-{name}",
    )


def test_slide_clip_video_and_pet_reach_a_model_by_both_ways(
    database_url: str, prefect_url: str, tmp_path: Path
) -> None:
    """The same pictures by each way, of studies of its own: one study is drafted from one archive alone."""
    move_port = free_port()
    with orthanc(tmp_path / "orthanc", move_port=move_port) as peer, faulty_endpoint() as server:
        ways: dict[str, dict[str, object]] = {
            "web": {"kind": "dicomweb", "url": peer.dicomweb},
            "move": {
                "kind": "dimse", "host": "127.0.0.1", "port": peer.port, "ae_title": peer.ae_title,
                "move_port": move_port, "retrieve": "move",
            },
        }  # fmt: skip
        seen = []
        for name, archive in ways.items():
            folder = tmp_path / name
            files = [
                *slide(folder / "slide", name), clip(folder / "clip.dcm", name),
                written(folder / "video.dcm", "H.264", stream("H.264", ramp(20)), frames=20, name=f"video {name}"),
                *pet(folder / "pet", f"{name} 1"),
                *pet(folder / "no", f"{name} 2", DecayCorrection="NONE"),
            ]  # fmt: skip
            store_over_rest(peer, *files)
            named = {str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in files}
            config = write_site(folder / "site", database_url, {"main": archive}, **served(server.url))
            run = firstread(
                "run", "--json", "--config", str(config), *(word for uid in named for word in ("--study", uid)),
                cwd=config.parent, prefect_api=prefect_url,
            )  # fmt: skip
            done = summary(run)
            assert (done["reported"], done["skipped"], done["failed"]) == (4, 1, 0), troubles(database_url)
            seen.append(sorted(_pictures(sent(body)) for body in server.bodies))
            server.bodies.clear()
    assert seen[0] == seen[1], "what the model sees does not depend on the way"
    by_count = {len(pictures): pictures for pictures in seen[0]}
    assert sorted(by_count) == [4, 9, 20, 32], (
        "planes of the PET, the slide and its tiles, the video, the clip"
    )
    assert np.allclose([shade for _, (shade, _, _) in by_count[32]][:2], [0, 5], atol=2)
    assert all(red < 250 or green > 50 for _, (red, green, _) in by_count[9]), "not the label"
    told = str(
        rows(database_url, "SELECT body FROM firstread.resource WHERE resource_type = 'DiagnosticReport'")
    )
    assert "32 of 40 frames of an ultrasound clip were shown" in told
    assert "of a slide all of it small and 8 of " in told
    assert "PET was shown as SUV by body weight from 0 to 10 g/mL" in told
    ((code, why),) = set(
        rows(database_url, "SELECT code, reason FROM firstread.ledger WHERE state = 'skipped'")
    )
    assert (code, "Decay Correction" in why) == ("no-suv", True)
    assert rows(database_url, "SELECT count(*) FROM firstread.preview") == [(2 * (4 + 9 + 12 + 12),)]


def _pictures(files: list[bytes]) -> list[tuple[tuple[int, int], tuple[int, int, int]]]:
    """Size and mean colour of each picture."""
    found = []
    for one in files:
        picture = Image.open(io.BytesIO(one)).convert("RGB")
        red, green, blue = (round(float(mean)) for mean in np.asarray(picture, float).mean(axis=(0, 1)))
        found.append((picture.size, (red, green, blue)))
    return found
