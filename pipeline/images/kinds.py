"""What an instance is, by its SOP class first; for secondary captures, which may hold anything, by its Modality.

PS3.4 B.5 lists the classes, PS3.3 C.7.3.1.1.1 the modalities. Only the header is asked; what is made of an instance is
for others to say.
"""

from collections.abc import Mapping, Sequence

from pipeline.accepts import MODALITIES, Accepts, Kind, modalities_of_kind
from pipeline.images.headers import Elements, integer, text, texts

_ROOT = "1.2.840.10008.5.1.4.1.1."
SECONDARY_CAPTURE = f"{_ROOT}7"
_CLASSES: Mapping[str, tuple[Kind, str]] = {
    f"{_ROOT}{suffix}": (kind, name)
    for kind, named in {
        Kind.FILM: {
            "1": "a radiograph", "1.1": "a radiograph", "1.1.1": "a raw detector image", "1.3": "a dental radiograph",
            "1.3.1": "a raw dental image",
        },
        Kind.MAMMOGRAM: {"1.2": "a mammogram", "1.2.1": "a raw mammogram"},
        Kind.TOMOSYNTHESIS: {
            "13.1.3": "a breast tomosynthesis", "13.1.4": "projections of a tomosynthesis",
            "13.1.5": "raw projections of a tomosynthesis",
        },
        Kind.SLICES: {
            "2": "a CT", "2.1": "a CT", "2.2": "a CT", "4": "an MR", "4.1": "an MR", "4.3": "a colour MR",
            "4.4": "an MR", "128": "a PET", "130": "a PET", "128.1": "a PET", "13.1.1": "a rotational angiography",
            "13.1.2": "a cone-beam CT",
        },
        Kind.CINE: {
            "3": "an ultrasound clip", "3.1": "an ultrasound clip", "12.1": "an angiogram",
            "12.1.1": "an angiogram", "12.2": "a fluoroscopy", "12.2.1": "a fluoroscopy", "12.3": "a biplane angiogram",
        },
        Kind.ULTRASOUND: {
            "6": "an ultrasound picture", "6.1": "an ultrasound picture", "6.2": "an ultrasound volume",
            "6.3": "a photoacoustic image",
        },
        Kind.PHOTOGRAPH: {
            "77.1": "a photograph", "77.2": "a photograph", "77.1.1": "an endoscopic picture",
            "77.1.2": "a microscopic picture", "77.1.3": "a microscopic picture",
            "77.1.4": "a photograph", "77.1.7": "a dermoscopic picture", "77.1.8": "a microscopic picture",
        },
        Kind.VIDEO: {
            "77.1.1.1": "an endoscopic video", "77.1.2.1": "a microscopic video", "77.1.4.1": "a video",
        },
        Kind.OPHTHALMIC: {
            "77.1.5.1": "an eye photograph", "77.1.5.2": "an eye photograph", "77.1.5.5": "an eye photograph",
            "77.1.5.6": "an eye photograph",
        },
        Kind.OCT: {
            "77.1.5.4": "an OCT of the eye", "77.1.5.7": "an OCT of the eye", "14.1": "an OCT of a vessel",
            "14.2": "a raw OCT of a vessel",
        },
        Kind.SLIDE: {"77.1.6": "a pathology slide", "77.1.9": "a microscopy slide"},
        Kind.NUCLEAR: {"5": "a nuclear medicine image", "20": "a nuclear medicine image"},
        Kind.RESULT: {
            "66": "raw data", "66.1": "a registration", "66.2": "fiducials", "66.3": "a registration",
            "66.4": "a segmentation", "66.5": "a segmentation", "66.7": "a segmentation",
            "66.8": "a segmentation", "8": "an overlay", "9": "a curve", "10": "a table of values",
            "11": "a table of values", "129": "a curve", "30": "a parametric map",
            "67": "a table of values", "104.1": "a PDF", "104.2": "a clinical document (CDA)",
            "104.3": "a surface for printing (STL)", "104.4": "a surface for printing (OBJ)",
            "104.5": "a material of a surface (MTL)", "4.2": "an MR spectroscopy", "66.6": "fibre tracts",
            "68.1": "a scanned surface", "68.2": "a scanned surface",
            "77.1.5.3": "a relation of two eye photographs", "77.1.5.8": "an analysis of an OCT of the eye",
            "80.1": "a visual field", "81.1": "a map of the thickness of the retina",
            "82.1": "a map of the cornea", "90.1": "an assessment", "131": "a layout of displays",
            "201.1": "an inventory of an archive", "481.1": "a verification film of radiotherapy",
            "481.2": "a dose of radiotherapy", "481.3": "structures of radiotherapy",
            "481.5": "a plan of radiotherapy", "88.67": "a radiation dose report", "88.68": "a dose report",
            "88.59": "a selection of images",
        },
    }.items()
    for suffix, name in named.items()
}  # fmt: skip
_RESULT_ROOTS: Mapping[str, str] = {
    f"{_ROOT}88.": "a structured report", f"{_ROOT}11.": "a presentation state", f"{_ROOT}9.": "a waveform",
    f"{_ROOT}481.": "a record of radiotherapy", f"{_ROOT}91.": "annotations",
    f"{_ROOT}79.": "an analysis of the macula",
    f"{_ROOT}78.": "measurements of the eye", f"{_ROOT}200.": "a protocol", "1.2.840.10008.5.1.4.34.": "an instruction",
    "1.2.840.10008.5.1.4.38.": "a hanging protocol", "1.2.840.10008.5.1.4.39.": "a table of colours",
    "1.2.840.10008.5.1.4.43.": "a template of an implant", "1.2.840.10008.5.1.4.44.": "a template of an implant",
    "1.2.840.10008.5.1.4.45.": "a template of an implant", "1.2.840.10008.5.1.1.": "a printed film",
    "1.2.840.10008.10.": "a transmission in real time",
}  # fmt: skip
"""Beginnings of classes that are results, records or things beside images, with their names."""
_STANDARD = "1.2.840.10008."
_NO_PATIENT_ROOTS = (f"{_ROOT}501.", f"{_ROOT}601.")
"""DICOS and DICONDE: security and material testing."""
_TELLS_OF_OTHERS = frozenset({f"{_ROOT}88.59", f"{_ROOT}11.1"})
"""Key objects and presentation states of grey pictures, which are asked of other instances."""
_SINGLE_PLANES = frozenset({f"{_ROOT}2", f"{_ROOT}4", f"{_ROOT}128"})
_BY_CLASS = (
    (f"{_ROOT}1.1.", "DX"), (f"{_ROOT}1.2.", "MG"), (f"{_ROOT}1.3.", "IO"), (f"{_ROOT}3.", "US"),
    (f"{_ROOT}88.59.", "KO"), (f"{_ROOT}88.", "SR"), (f"{_ROOT}11.", "PR"), (f"{_ROOT}104.", "DOC"),
    (f"{_ROOT}9.1.", "ECG"), (f"{_ROOT}481.2.", "RTDOSE"), (f"{_ROOT}481.3.", "RTSTRUCT"), (f"{_ROOT}481.5.", "RTPLAN"),
)  # fmt: skip
"""Modality by the beginning of a class (PS3.3 C.7.3.1.1.1), dots on both ends."""
_PLANES = {"a CT": "CT", "an MR": "MR", "a PET": "PT", "a cone-beam CT": "CT"}
"""What planes say in Modality whatever their header does: of a cone-beam CT of the face that is DX, too."""
_TOMOSYNTHESIS_AS_CT = (Kind.TOMOSYNTHESIS, "a breast tomosynthesis")


def kind_of(dataset: Elements) -> Kind:
    """What the instance is."""
    return _named(dataset)[0]


def in_words(dataset: Elements) -> str:
    """What the instance is, as a reader of a refusal knows it: "a CT", "a pathology slide"."""
    return _named(dataset)[1]


def in_words_by_listing(sop_class_uid: str, modality: str = "") -> str:
    """The same by an archive's listing alone; "" where it does not say."""
    if found := _of_class(sop_class_uid):
        return found[1]
    named = MODALITIES.get(modality.strip().upper())
    return named.words if named else ""


def modality_of(dataset: Elements) -> str:
    """The modality, by the class where it is one of planes: the header's own is wrong now and then."""
    return _PLANES.get(in_words(dataset)) or text(dataset, "Modality").upper()


def accepted_by_listing(sop_class_uid: str, accepts: Sequence[Accepts]) -> bool:
    """Whether an instance of a class may be one that ``accepts`` names."""
    found = _of_class(sop_class_uid)
    return found is not None and any(one.kind is found[0] for one in accepts)


def read_by_class(sop_class_uid: str, accepts: Sequence[Accepts]) -> bool:
    """Whether an instance of a class may be a film of the chest, one that ``accepts`` names, or say how to take others
    (a key object may reject them, a presentation state turns them).
    """
    if sop_class_uid in _TELLS_OF_OTHERS or f"{sop_class_uid}.".startswith(f"{SECONDARY_CAPTURE}."):
        return True
    found = _of_class(sop_class_uid)
    if found is None or found[0] is Kind.FILM:
        return found is not None and not _is_raw(found[1])
    if _is_raw(found[1]):
        return False
    modality = _PLANES.get(found[1], "")
    kinds = {found[0], Kind.TOMOSYNTHESIS} if modality == "CT" else {found[0]}
    return any(
        one.kind in kinds and (not modality or not one.modalities or modality in one.modalities)
        for one in accepts
    )


def is_one_plane(sop_class_uid: str) -> bool:
    """Whether each instance of a class is one plane of CT, MR or PET."""
    return sop_class_uid in _SINGLE_PLANES


def modality_by_class(sop_class_uid: str) -> str:
    """The modality that a class alone tells; "OT" where it tells none."""
    named = in_words_by_listing(sop_class_uid)
    told = next((term for root, term in _BY_CLASS if f"{sop_class_uid}.".startswith(root)), "")
    return (
        told
        or _PLANES.get(named)
        or next((term for term, one in MODALITIES.items() if one.words == named), "OT")
    )


def modalities_of(accepts: Sequence[Accepts]) -> frozenset[str]:
    """The modalities that ``accepts`` name, all of its kind where one names none."""
    return frozenset(
        modality for one in accepts for modality in (one.modalities or modalities_of_kind(one.kind))
    )


def _named(dataset: Elements) -> tuple[Kind, str]:
    sop_class, modality = text(dataset, "SOPClassUID"), text(dataset, "Modality").upper()
    found = _of_class(sop_class)
    if found is not None:
        if modality == "IVUS" and found[0] is Kind.CINE:
            return found[0], MODALITIES[modality].words
        return _TOMOSYNTHESIS_AS_CT if found[0] is Kind.SLICES and _is_tomosynthesis(dataset) else found
    named = MODALITIES.get(modality)
    if f"{sop_class}.".startswith(f"{SECONDARY_CAPTURE}."):
        if named is None or named.kinds[0] is Kind.SLICES:
            return Kind.CAPTURE, "a secondary capture"
        return named.kinds[0], f"{named.words} as a secondary capture"
    if named is not None and not sop_class:
        several = (integer(dataset, "NumberOfFrames") or 1) > 1 and Kind.CINE in named.kinds
        return (Kind.CINE if several else named.kinds[0]), named.words
    makers = sop_class and not sop_class.startswith(_STANDARD)
    return Kind.UNKNOWN, "an object of a maker's own class" if makers else "an object of an unknown class"


def _of_class(sop_class_uid: str) -> tuple[Kind, str] | None:
    if sop_class_uid in _CLASSES:
        return _CLASSES[sop_class_uid]
    if sop_class_uid.startswith(_NO_PATIENT_ROOTS):
        return Kind.UNKNOWN, "an image of luggage or material"
    found = next((name for root, name in _RESULT_ROOTS.items() if sop_class_uid.startswith(root)), None)
    return (Kind.RESULT, found) if found else None


def _is_raw(name: str) -> bool:
    return name.startswith(("a raw ", "raw "))


def _is_tomosynthesis(dataset: Elements) -> bool:
    """A breast tomosynthesis sold as CT: its values are no Hounsfield units."""
    kinds = {one.upper() for one in texts(dataset, "ImageType")}
    return "TOMO" in kinds and text(dataset, "BodyPartExamined").upper() == "BREAST"
