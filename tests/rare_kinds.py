"""Small objects of kinds that archives hold now and then, each with what has to become of it by the standard.

What is read has its captions, and by frame or plane its mean from black to white where the standard gives it; what is
refused has words of the refusal. One study each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from tests.ct_series import Slice, enhanced, stack, write_series
from tests.kind_samples import write_picture
from tests.slide_files import drawn, write_level

GREY = np.tile(np.linspace(0, 250, 128, dtype=np.uint8), (96, 1))
RIGHT = np.broadcast_to(np.arange(64, dtype=np.uint16), (64, 64))
"""Counts that grow to the right: 0 to 63."""
SQUARE: dict[str, Any] = {"rows": 64, "columns": 64, "spacing": (0.8, 0.8)}
Write = Callable[[Path, str], Sequence[Path]]


@dataclass(frozen=True)
class Rare:
    """``write`` gives the files of one study in a folder, by its name; ``captions`` are all that is shown, in order;
    ``told`` are beginnings of remarks, ``refused`` is in the words of the refusal.
    """

    write: Write
    captions: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    refused: str = ""
    means: tuple[float, ...] = field(default=(), repr=False)


def of(**said: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    return dataset


def picture(
    suffix: str, modality: str, frames: NDArray[Any] | None = None, pixels: NDArray[Any] = GREY, **more: Any
) -> Write:
    """One instance of a class; of several ``frames`` where they are given."""
    return lambda folder, name: [
        write_picture(
            folder / "one.dcm",
            suffix,
            modality,
            pixels if frames is None else frames[0],
            name,
            frames=frames,
            **more,
        )
    ]


def series(slices: Sequence[Slice], modality: str = "CT") -> Write:
    return lambda folder, name: write_series(
        folder, list(slices), modality=modality, study=name, patient=name
    )


def whole(slices: Sequence[Slice], suffix: str, modality: str) -> Write:
    """The planes as one enhanced object of a class, which says ``modality``."""

    def write(folder: Path, name: str) -> list[Path]:
        path = enhanced(series(slices)(folder / "classic", name), folder / "whole.dcm", suffix)
        dataset = dcmread(path)
        dataset.Modality = modality
        dataset.save_as(path)
        return [path]

    return write


def vectors(frames: int, **runs: Sequence[int]) -> dict[str, Any]:
    """Frame Increment Pointer and its vectors (PS3.3 C.8.4.8.1.1); what is given last runs quickest."""
    tags = {
        "EnergyWindowVector": 0x00540010, "DetectorVector": 0x00540020, "PhaseVector": 0x00540030,
        "RotationVector": 0x00540050, "RRIntervalVector": 0x00540060, "TimeSlotVector": 0x00540070,
        "SliceVector": 0x00540080, "AngularViewVector": 0x00540090, "TimeSliceVector": 0x00540100,
    }  # fmt: skip
    assert all(len(run) == frames for run in runs.values())
    return {
        "FrameIncrementPointer": [tags[one] for one in runs],
        **{name: list(run) for name, run in runs.items()},
    }


def nested(*counts: int) -> list[list[int]]:
    """The places of frames that run through ``counts`` dimensions, the last one quickest, from 1."""
    grid = np.indices(counts).reshape(len(counts), -1) + 1
    return [list(map(int, one)) for one in grid]


def planar(words: str, at: Sequence[int], of_how_many: int, places: Callable[[int], str]) -> tuple[str, ...]:
    return tuple(f"{words}, frame {frame + 1} of {of_how_many}{places(frame)}" for frame in at)


def compressed(
    syntax: str, encode: Callable[[NDArray[Any]], bytes | bytearray], photometric: str, pixels: NDArray[Any]
) -> Write:
    """A picture of the skin whose one frame is ``encode``'s; pydicom knows no name of some of these syntaxes."""

    def write(folder: Path, name: str) -> list[Path]:
        path = write_picture(
            folder / "one.dcm", "77.1.4", "XC", pixels, name, PhotometricInterpretation=photometric
        )
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([bytes(encode(pixels))])
        dataset["PixelData"].VR = "OB"
        known = "1.2.840.10008.1.2.4.201"
        dataset.file_meta.TransferSyntaxUID = UID(known)
        dataset.save_as(path, enforce_file_format=True)
        assert len(syntax) == len(known)
        path.write_bytes(path.read_bytes().replace(known.encode(), syntax.encode()))
        return [path]

    return write


COLOURS = np.stack([np.arange(64, dtype=np.uint8)[None] * 3 + np.zeros((64, 1), np.uint8)] * 3, axis=-1)
COLOURS[..., 2] = np.arange(64, dtype=np.uint8)[:, None] * 3


def volume_of_ultrasound() -> dict[str, Any]:
    """Two moments of three planes of tissue, over each plane its flow (PS3.3 A.59, C.8.24.5.4)."""
    groups = [
        of(
            PlanePositionVolumeSequence=Items([of(ImagePositionVolume=[0.0, 0.0, float(plane)])]),
            FrameContentSequence=Items([of(TemporalPositionIndex=moment)]),
            ImageDataTypeSequence=Items([of(DataType=kind, AliasedDataType="NO")]),
        )
        for moment in (1, 2)
        for kind in ("TISSUE_INTENSITY", "FLOW_VELOCITY")
        for plane in range(3)
    ]
    return {"PerFrameFunctionalGroupsSequence": Items(groups), "BitsStored": 8}


def energies(*kev: float, between: float = 0.0) -> list[Slice]:
    """Virtual images of several energies in one series (PS3.3 C.8.15.3.12), each brighter by 300."""
    return [
        replace(one, shift=300 * number).with_extra(
            ImageType=["DERIVED", "PRIMARY", "AXIAL", "VMI"],
            KVP=120,
            MultienergyCTCharacteristicsSequence=Items([of(MonoenergeticEnergyEquivalent=energy)]),
        )
        for number, energy in enumerate(kev)
        for one in stack(4, origin=(-20, -30, -50 + number * between), **SQUARE)
    ]


def between(attributes: Sequence[dict[str, Any]]) -> list[Slice]:
    """Two volumes of four planes, the second half a step above the first and brighter by 300."""
    return [
        replace(one, shift=300 * number).with_extra(**said)
        for number, said in enumerate(attributes)
        for one in stack(4, origin=(-20, -30, -50 + number), **SQUARE)
    ]


def axial(words: str, count: int, shown: str) -> tuple[str, ...]:
    return tuple(f"{words}, axial, plane {place} of {count}, {shown}" for place in range(1, count + 1))


_HALF = np.stack([RIGHT // 2 + 20 * frame for frame in range(12)]).astype(np.uint8)
_HU = "window -160 to 240 HU"
_GATED = np.stack([RIGHT + 10 * place for _ in range(8) for place in range(16)]).astype(np.uint16)
_FEW = np.stack([(RIGHT % (2 + frame)).astype(np.uint16) for frame in range(8)])
_SLOT, _PLACE = nested(8, 16)
_WINDOW, _DETECTOR = nested(2, 2)
_GATED_SHOWN = [(slot * 16) + place for slot in (0, 2, 5, 7) for place in (0, 2, 4, 6, 9, 11, 13, 15)]

READ: dict[str, Rare] = {
    "whole body": Rare(
        picture(
            "20", "NM", np.stack([RIGHT, RIGHT * 2, RIGHT * 50, RIGHT * 100]).astype(np.uint16),
            ImageType=["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"],
            **vectors(4, EnergyWindowVector=_WINDOW, DetectorVector=_DETECTOR),
        ),
        planar(
            "Nuclear medicine image", range(4), 4,
            lambda frame: f", energy window {_WINDOW[frame]} of 2, detector {_DETECTOR[frame]} of 2",
        ),
        means=(0.25, 0.5, 0.25, 0.5),  # counts of one energy window are compared, those of another are its own
    ),
    "dynamic": Rare(
        picture(
            "20", "NM", _FEW, ImageType=["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"],
            **vectors(8, PhaseVector=[1] * 8, TimeSliceVector=range(1, 9)),
        ),
        planar("Nuclear medicine image", range(8), 8, lambda frame: f", time slice {frame + 1} of 8"),
    ),
    "gated": Rare(
        picture(
            "20", "NM", _GATED, ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"],
            **vectors(128, RRIntervalVector=[1] * 128, TimeSlotVector=_SLOT, SliceVector=_PLACE),
        ),
        planar(
            "Nuclear medicine image", _GATED_SHOWN, 128,
            lambda frame: f", time slot {_SLOT[frame]} of 8, slice {_PLACE[frame]} of 16",
        ),
        ("of 8 sets of frames of a nuclear medicine image 4 were shown, told apart by time slot",),
    ),
    "ultrasound volume": Rare(
        picture("6.2", "US", _HALF, **volume_of_ultrasound()),
        planar(
            "Ultrasound volume", (0, 1, 2, 6, 7, 8), 12,
            lambda frame: f", moment {1 + frame // 6} of 2, plane {1 + frame % 3} of 3",
        ),
        ("6 frames of an ultrasound volume show flow or elasticity",),
    ),
    "pullback": Rare(
        picture("3.1", "IVUS", np.stack([GREY, GREY // 2])),
        planar("Ultrasound of a vessel", range(2), 2, lambda _: ""),
    ),
    "vessel": Rare(
        picture("14.1", "IVOCT", np.stack([GREY, GREY // 2])), planar("OCT of a vessel", range(2), 2, lambda _: "")
    ),
    "en face": Rare(picture("77.1.5.7", "OPTENF", PixelSpacing=[0.02, 0.01], ImageLaterality="L"),
                    ("OCT of the eye (left)",)),
    "wide field": Rare(picture("77.1.5.6", "OP", pixels=COLOURS, ImageLaterality="R"), ("Eye photograph (right)",)),
    "confocal": Rare(picture("77.1.8", "DMS"), ("Microscopic picture",)),
    "jaw": Rare(whole(stack(4, **SQUARE), "13.1.2", "DX"), axial("Cone-beam CT", 4, "values ")),
    "virtual energies": Rare(
        series(energies(40.0, 70.0, 140.0)), axial("CT", 4, _HU),
        ("a virtual CT image of one energy, 70 keV, was shown",), means=(1.0,) * 4,
    ),
    "virtual energies between each other": Rare(
        series(energies(70.0, 40.0, between=1.0)), axial("CT", 4, _HU), ("a virtual CT image of one energy, 70 keV",),
    ),
    "without contrast": Rare(
        series([one.with_extra(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"], RescaleType="HU_MOD")
                for one in stack(4, **SQUARE)]),
        axial("CT", 4, _HU), ("a CT in which a material was computed away or changed was shown",),
    ),
    "synthetic": Rare(
        series([one.with_extra(SyntheticData="YES") for one in stack(4, **SQUARE)]), axial("CT", 4, _HU),
        ("the header says that an image of this study was made artificially",),
    ),
    "echoes between each other": Rare(
        series(between([{"EchoTime": 10.0}, {"EchoTime": 80.0}]), "MR"), axial("MR", 4, "values "),
        ("of several images at each place one set was shown, told apart by Echo",),
    ),
    "contrast between": Rare(
        series(between([{"ContrastBolusAgent": ""}, {"ContrastBolusAgent": "planted"}])), axial("CT", 4, _HU),
        ("of several images at each place one set was shown, told apart by contrast",),
    ),
    "tilt that changes": Rare(
        series([*stack(5, **SQUARE), *stack(4, origin=(-20, -30, -38), cosines=(1, 0, 0, 0, 0.984808, -0.173648),
                                            **SQUARE)]),
        axial("CT", 5, _HU), ("one of 2 series that could be shown",),
    ),
}  # fmt: skip
for _number in (201, 202, 203):
    READ[f"JPEG 2000 of high throughput, {_number}"] = Rare(
        compressed(
            f"1.2.840.10008.1.2.4.{_number}",
            partial(imagecodecs.htj2k_encode, reversible=None if _number < 203 else False),
            "YBR_RCT" if _number < 203 else "YBR_ICT",
            COLOURS,
        ),
        ("Photograph",),
    )
READ["JPEG XL"] = Rare(
    compressed(
        "1.2.840.10008.1.2.4.110", lambda one: imagecodecs.jpegxl_encode(one, lossless=True), "RGB", COLOURS
    ),
    ("Photograph",),
)


def _slides(folder: Path, name: str) -> list[Path]:
    """Two pyramids of one series, two levels each (PS3.3 C.7.6.27)."""
    return [
        write_level(
            folder / f"{pyramid}{scale}.dcm", drawn(512 // scale, scale), microns=scale, name=name,
            PyramidUID=f"2.25.{ord(pyramid)}",
        )
        for pyramid in "ab"
        for scale in (1, 4)
    ]  # fmt: skip


def _windowed(suffix: str, modality: str) -> Write:
    """Three frames, the middle one in a window of its own (PS3.3 C.7.6.16.2.10)."""

    def window(center: float, width: float) -> Dataset:
        return of(FrameVOILUTSequence=Items([of(WindowCenter=center, WindowWidth=width)]))

    return picture(
        suffix, modality, np.stack([GREY] * 3),
        SharedFunctionalGroupsSequence=Items([window(125.5, 251)]),
        PerFrameFunctionalGroupsSequence=Items([Dataset(), window(50.5, 101), Dataset()]),
    )  # fmt: skip


def _sweeps() -> list[Slice]:
    """Three sweeps over five places that Content Time alone tells apart."""
    return [
        replace(one, shift=1000 * moment).with_extra(ContentTime=f"0708{10 + moment}.{place}00000")
        for moment in range(3)
        for place, one in enumerate(stack(5, **SQUARE))
    ]


def _mapped() -> list[Slice]:
    """PET whose header leads from stored values to SUV by body weight alone (PS3.3 C.7.6.16.2.11): 0.02 a value."""
    mapping = of(
        RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=4095, RealWorldValueSlope=0.02,
        RealWorldValueIntercept=0.0,
        MeasurementUnitsCodeSequence=Items(
            [of(CodeValue="{SUVbw}g/ml", CodingSchemeDesignator="UCUM", CodeMeaning="uptake")]
        ),
    )  # fmt: skip
    return [
        one.with_extra(Units="PROPCPS", RealWorldValueMappingSequence=Items([mapping]))
        for one in stack(4, intercept=0, **SQUARE)
    ]


READ |= {
    "two pyramids": Rare(
        _slides, ("Pathology slide",) * 9, ("of a slide all of it small",)
    ),
    "enhanced angiogram": Rare(
        _windowed("12.1.1", "XA"), planar("Angiogram", range(3), 3, lambda _: ""), means=(0.498, 0.79, 0.498)
    ),
    "enhanced OCT": Rare(
        _windowed("77.1.5.4", "OPT"), planar("OCT of the eye", range(3), 3, lambda _: ""), means=(0.498, 0.79, 0.498)
    ),
    "slabs": Rare(
        _windowed("13.1.3", "MG"), planar("Breast tomosynthesis", range(3), 3, lambda _: ""),
        means=(0.498, 0.79, 0.498),
    ),
    "sweeps": Rare(
        series(_sweeps()), axial("CT", 5, _HU),
        ("of several images at each place one set was shown, told apart by Content Time",),
    ),
    "uptake": Rare(series(_mapped(), "PT"), axial("PET", 4, "SUV 0 to 10"), ("PET was shown as SUV by body weight",)),
}  # fmt: skip

REFUSED: dict[str, Rare] = {
    name: Rare(picture(suffix, modality), refused=words)
    for name, (suffix, modality, words) in {
        "label map": ("66.7", "SEG", "a segmentation and no image"),
        "height map": ("66.8", "SEG", "a segmentation and no image"),
        "letter": ("104.2", "DOC", "a clinical document (CDA) and no image"),
        "print": ("104.3", "M3D", "a surface for printing (STL) and no image"),
        "object": ("104.4", "M3D", "a surface for printing (OBJ) and no image"),
        "material": ("104.5", "M3D", "a material of a surface (MTL) and no image"),
        "tracts": ("66.6", "MR", "fibre tracts and no image"),
        "cornea": ("82.1", "OPM", "a map of the cornea and no image"),
        "spectra": ("4.2", "MR", "an MR spectroscopy and no image"),
        "heartbeat": ("9.1.1", "ECG", "a waveform and no image"),
        "breath": ("9.6.1", "RESP", "a waveform and no image"),
    }.items()
}
REFUSED["colour MR"] = Rare(picture("4.3", "MR", pixels=COLOURS), refused="a colour picture, not a plane")
