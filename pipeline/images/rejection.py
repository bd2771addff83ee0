"""Films that somebody took out of use: Key Object Selections that reject (PS3.3 C.17.6, PS3.16 TID 2010 and CID 7011,
IHE Radiology Imaging Object Change Management, RAD-66).
"""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.images.headers import Elements, Header, items, text

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
REJECTIONS: Mapping[str, str] = {
    "113001": "rejected for quality reasons",
    "113037": "rejected for patient safety reasons",
    "113038": "rejected: incorrect modality worklist entry",
    "113039": "rejected: the time of retention is over",
}


def rejection_of(header: Header) -> str:
    """Why a Key Object Selection takes what it names out of use, "" for every other instance."""
    dataset = header.dataset
    if text(dataset, "SOPClassUID") != KEY_OBJECT:
        return ""
    titles = [
        text(item, "CodeValue")
        for item in items(dataset, "ConceptNameCodeSequence")
        if text(item, "CodingSchemeDesignator").upper() in ("DCM", "")
    ]
    return next((REJECTIONS[title] for title in titles if title in REJECTIONS), "")


def rejected(headers: Sequence[Header]) -> Mapping[str, str]:
    """SOP Instance UIDs that a rejection note of the study names, and why. A note that is itself rejected counts no
    more.
    """
    notes = {
        text(header.dataset, "SOPInstanceUID"): (why, frozenset(_referenced(header.dataset)))
        for header in headers
        if (why := rejection_of(header))
    }
    withdrawn = {uid for own, (_, named) in notes.items() for uid in named if uid in notes and uid != own}
    return {uid: why for own, (why, named) in notes.items() if own not in withdrawn for uid in sorted(named)}


def _referenced(dataset: Elements) -> Iterator[str]:
    """Instances that the note's content names, and those of its evidence (PS3.3 C.17.2.1)."""
    for item in items(dataset, "ContentSequence"):
        for image in items(item, "ReferencedSOPSequence"):
            yield text(image, "ReferencedSOPInstanceUID")
    for study in items(dataset, "CurrentRequestedProcedureEvidenceSequence"):
        for series in items(study, "ReferencedSeriesSequence"):
            for image in items(series, "ReferencedSOPSequence"):
                yield text(image, "ReferencedSOPInstanceUID")
