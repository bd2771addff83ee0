"""Videos in DICOM: frames by time, colours by matrix and range after the standards, and streams that are cut.

The streams are made here by PyAV's encoders; colours are those of BT.601 and BT.709 worked out from their matrices, and
what is decoded with groups of pictures left out is what is decoded in one go.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pipeline.accepts import Accepts, Kind
from pipeline.errors import FailStudy
from pipeline.images import video
from pipeline.images.headers import read_header, text
from pipeline.images.limits import ImageLimits
from pipeline.images.pictures import prepare_pictures
from pipeline.images.prepare import StudyHeaders
from pipeline.images.video import video_frames
from pipeline.study import FetchedStudy, ImageSet
from tests.kind_samples import write_picture

av = pytest.importorskip("av")
FORMS = {
    "MPEG-2": ("mpeg2video", "1.2.840.10008.1.2.4.100", "mpegts"),
    "H.264": ("libx264", "1.2.840.10008.1.2.4.102", "mp4"),
    "H.264 in a transport stream": ("libx264", "1.2.840.10008.1.2.4.103.1", "mpegts"),
    "H.264 alone": ("libx264", "1.2.840.10008.1.2.4.102", "h264"),
    "HEVC": ("libx265", "1.2.840.10008.1.2.4.107", "mp4"),
}
ROWS, COLUMNS, FRAMES = 96, 128, 50
Yuv = tuple[int, int, int]


def stream(
    form: str,
    frames: list[Yuv],
    *,
    rows: int = ROWS,
    columns: int = COLUMNS,
    group: int = 12,
    rate: int = 25,
    matrix: int | None = None,
    full: bool = False,
) -> bytes:
    """A video of frames of one colour each, given as stored luminance and chrominance."""
    codec, _, container = FORMS[form]
    held = io.BytesIO()
    with av.open(held, "w", format=container) as opened:
        to = opened.add_stream(codec, rate=rate)
        to.width, to.height, to.pix_fmt, to.gop_size = columns, rows, "yuv420p", group
        to.time_base = Fraction(1, rate)
        if codec == "libx264":
            to.options = {"qp": "4", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
        elif codec == "libx265":
            to.options = {"x265-params": f"log-level=none:qp=4:keyint={group}:pools=1:frame-threads=1"}
        else:
            to.codec_context.qmin = to.codec_context.qmax = 2
        if matrix is not None:
            to.codec_context.colorspace = matrix
        if full:
            to.codec_context.color_range = 2
        for number, colour in enumerate(frames):
            frame = av.VideoFrame(columns, rows, "yuv420p")
            for plane, value in zip(frame.planes, colour, strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = number
            opened.mux(to.encode(frame))
        opened.mux(to.encode(None))
    return held.getvalue()


def written(
    path: Path,
    form: str,
    content: bytes,
    *,
    frames: int = FRAMES,
    pieces: int = 1,
    name: str = "video",
    **more: object,
) -> Path:
    write_picture(path, "77.1.1.1", "ES", np.zeros((ROWS, COLUMNS, 3), np.uint8), name)
    dataset = dcmread(path)
    dataset.NumberOfFrames, dataset.PhotometricInterpretation = frames, "YBR_PARTIAL_420"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    content += b"\0" * (len(content) % 2)
    dataset.PixelData = encapsulate([content], fragments_per_frame=pieces, has_bot=False)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(FORMS[form][1])
    dataset.save_as(path, enforce_file_format=True)
    return path


def shown(path: Path, accepted: Accepts) -> ImageSet:
    header = read_header(path, ImageLimits())
    study = FetchedStudy(text(header.dataset, "StudyInstanceUID"), (), (), (), path.parent)
    return prepare_pictures(study, StudyHeaders((header,), ()), (accepted,))[1]


def ramp(count: int = FRAMES) -> list[Yuv]:
    """Luminance tells the number of a frame."""
    return [(30 + 3 * number, 128, 128) for number in range(count)]


def numbers_seen(images: Any) -> list[int]:
    grey = [float(image.pixels.mean()) * 255 * 219 / 255 + 16 for image in images]
    return [round((one - 30) / 3) for one in grey]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_frames_are_found_by_their_time(form: str, tmp_path: Path) -> None:
    """Two seconds at 25 a second, B-pictures and open groups among them: one a second is 12 and 37."""
    path = written(tmp_path / "a.dcm", form, stream(form, ramp()), pieces=5, CineRate=25)
    image_set = shown(path, Accepts(Kind.VIDEO, most=8, rate=1))
    assert [image.frame for image in image_set.images] == [12, 37]
    assert numbers_seen(image_set.images) == [12, 37]
    assert [one.message for one in image_set.remarks if one.code == "frames-shown"] == [
        "2 of 50 frames of an endoscopic video were shown"
    ]
    assert not any(one.code == "frames-missing" for one in image_set.remarks)
    evenly = shown(path, Accepts(Kind.VIDEO, most=5))
    assert numbers_seen(evenly.images) == [image.frame for image in evenly.images] == [0, 12, 24, 37, 49]
    spread = shown(path, Accepts(Kind.VIDEO, least=4, most=8, rate=2)).images
    assert numbers_seen(spread) == [image.frame for image in spread] == [0, 16, 33, 49]
    assert [image.seconds for image in spread] == pytest.approx([0.0, 0.64, 1.32, 1.96])


COEFFICIENTS = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}


def as_rgb(colour: Yuv, matrix: str, *, full: bool) -> npt.NDArray[np.float64]:
    """ITU-R BT.601 and BT.709: the matrix from its two coefficients, video range 16 to 235 and 16 to 240."""
    red, blue = COEFFICIENTS[matrix]
    y, cb, cr = colour
    if full:
        y_, cb_, cr_ = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y_, cb_, cr_ = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    r, b = y_ + 2 * (1 - red) * cr_, y_ + 2 * (1 - blue) * cb_
    g = (y_ - red * r - blue * b) / (1 - red - blue)
    return np.asarray(np.clip(np.array([r, g, b]), 0, 1) * 255, np.float64)


@pytest.mark.parametrize(
    ("rows", "matrix", "full", "wanted"),
    [
        (96, None, False, "601"),  # standard definition that says nothing
        (720, None, False, "709"),  # high definition that says nothing
        (96, 1, False, "709"),
        (720, 5, False, "601"),
        (96, 1, True, "709"),
    ],
)
def test_colours_follow_matrix_and_range(
    rows: int, matrix: int | None, full: bool, wanted: str, tmp_path: Path
) -> None:
    colours: list[Yuv] = [(81, 90, 200), (120, 170, 90), (180, 110, 150)]
    content = stream("H.264", colours, rows=rows, columns=160, matrix=matrix, full=full)
    header = read_header(written(tmp_path / "a.dcm", "H.264", content, frames=3), ImageLimits())
    found = video_frames(header, lambda seconds: range(len(seconds)), lambda frame: frame.astype(np.float32))
    for (_, frame, _), colour in zip(found.pictures, colours, strict=True):
        middle = frame[rows // 2, 80]
        assert np.abs(middle - as_rgb(colour, wanted, full=full)).max() <= 2.5


def test_a_video_cut_short_is_shown_so_far_and_named(tmp_path: Path) -> None:
    content = stream("MPEG-2", ramp())
    path = written(tmp_path / "a.dcm", "MPEG-2", content[: len(content) // 2])
    image_set = shown(path, Accepts(Kind.VIDEO, most=4))
    assert numbers_seen(image_set.images) == [image.frame for image in image_set.images]
    (told,) = [one.message for one in image_set.remarks if one.code == "frames-missing"]
    assert "cut short" in told
    assert "of 50 frames that its header declares" in told


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\0\0", "undecodable"),
        (b"\0" * 4000, "undecodable"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "undecodable"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "undecodable"),
    ],
    ids=["empty", "zeros", "playlist", "list"],
)
def test_what_is_no_video_is_named(content: bytes, code: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", "H.264", content)
    with pytest.raises(FailStudy) as caught:
        shown(path, Accepts(Kind.VIDEO))
    assert caught.value.code == code


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.dcm", "H.264", b"\0" * 40)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FailStudy, match=r"firstread\[video\]") as caught:
        shown(path, Accepts(Kind.VIDEO))
    assert caught.value.code == "no-video-decoder"


def test_a_file_cut_short_is_no_video_cut_short(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", "MPEG-2", stream("MPEG-2", ramp(10)), frames=10)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FailStudy, match="ends before"):
        shown(path, Accepts(Kind.VIDEO))


def test_a_decoder_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.dcm", "MPEG-2", stream("MPEG-2", ramp(10)), frames=10)
    monkeypatch.setattr(video, "SECONDS", 0.0)
    with pytest.raises(FailStudy) as caught:
        shown(path, Accepts(Kind.VIDEO))
    assert caught.value.code == "decoder-slow"
