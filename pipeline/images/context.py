"""What the headers say about patient and study, as values. Everything here is patient data."""

from collections.abc import Callable
from datetime import datetime, time, timedelta, timezone

from pipeline.images.body_parts import certain_part_of
from pipeline.images.clock import read_time
from pipeline.images.headers import Elements, Header, integer, items, read_date, text, texts
from pipeline.images.identity import patient_of
from pipeline.images.instance_identity import side_of
from pipeline.study import Code, InstanceRef, Remark
from pipeline.study_context import InstanceDescription, StudyContext

_PERSONS = (
    "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson",
    "ReferringPhysicianName", "RequestingPhysician", "PhysiciansOfRecord", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "ConsultingPhysicianName",
)  # fmt: skip
_IDENTIFIERS = (
    "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers", "AdmissionID", "ServiceEpisodeID",
    "MedicalRecordLocator", "FillerOrderNumberImagingServiceRequest",
    "PlacerOrderNumberImagingServiceRequest", "RequestedProcedureID",
)  # fmt: skip
_INDICATIONS = ("ReasonForTheRequestedProcedure", "ReasonForStudy", "AdmittingDiagnosesDescription")


def study_context(study_instance_uid: str, headers: list[Header]) -> StudyContext:
    """The study as its headers describe it; study and patient fields come from the first header that has
    them.
    """
    datasets = [header.dataset for header in headers]
    return StudyContext(
        study_instance_uid=study_instance_uid,
        patient=patient_of(datasets),
        accession_number=_first(datasets, "AccessionNumber"),
        accession_issuer=_issuer(datasets, "IssuerOfAccessionNumberSequence"),
        study_id=_first(datasets, "StudyID"),
        started=next((moment for dataset in datasets if (moment := started(dataset))), None),
        description=_first(datasets, "StudyDescription"),
        institution=_first(datasets, "InstitutionName"),
        procedure_codes=_procedure_codes(datasets),
        indication=_indication(datasets),
        persons=_each(datasets, _PERSONS),
        identifiers=_each(datasets, _IDENTIFIERS),
        instances=tuple(_description(header) for header in headers),
    )


def instance_ref(dataset: Elements) -> InstanceRef:
    """The three UIDs as the header has them, "" where absent."""
    return InstanceRef(
        text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID"), text(dataset, "SOPInstanceUID")
    )


def started(dataset: Elements) -> datetime | None:
    """Study Date and Time; aware where Timezone Offset From UTC says so, midnight where only the date can be
    read.
    """
    day = read_date(text(dataset, "StudyDate"))
    if day is None:
        return None
    clock = read_time(text(dataset, "StudyTime"))
    moment = datetime.combine(day, clock or time())
    if clock is None:
        return moment  # a day: with a zone it would be told as midnight
    offset = text(dataset, "TimezoneOffsetFromUTC").replace(":", "")  # as ISO 8601 may write it
    offset = "+0000" if offset == "Z" else offset
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdecimal():
        ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
        if ahead <= timedelta(hours=14):
            return moment.replace(tzinfo=timezone(-ahead if offset[0] == "-" else ahead))
    return moment


def odd_values(datasets: list[Elements]) -> tuple[Remark, ...]:
    """What headers say that no date, time or number can be (PS3.5 6.2): left out, or the nearest that can."""
    odd = {
        name
        for dataset in datasets
        for keyword, name, can_be in _BOUNDED
        if (value := text(dataset, keyword)) and not can_be(dataset, keyword, value)
    }
    return tuple(
        Remark("header-value", f"the header's {name} is out of range and was left out or cut")
        for name in sorted(odd)
    )


def _is_time(_: Elements, __: str, value: str) -> bool:
    return read_time(value) is not None and not value.replace(":", "").startswith("24")


_BOUNDED: tuple[tuple[str, str, Callable[[Elements, str, str], bool]], ...] = (
    ("StudyDate", "study date", lambda _, __, value: read_date(value) is not None),
    ("StudyTime", "study time", _is_time),
    ("PatientBirthDate", "birth date", lambda _, __, value: read_date(value) is not None),
    ("SeriesNumber", "series number", lambda dataset, keyword, _: _ordinal(dataset, keyword) is not None),
    ("InstanceNumber", "instance number", lambda dataset, keyword, _: _ordinal(dataset, keyword) is not None),
)


def _each(datasets: list[Elements], keywords: tuple[str, ...]) -> tuple[str, ...]:
    found = (one for dataset in datasets for keyword in keywords for one in texts(dataset, keyword))
    return tuple(dict.fromkeys(one for one in found if one))


def _first(datasets: list[Elements], keyword: str) -> str:
    return next((found for dataset in datasets if (found := text(dataset, keyword))), "")


def _issuer(datasets: list[Elements], keyword: str) -> str:
    for dataset in datasets:
        for item in items(dataset, keyword):
            found = text(item, "UniversalEntityID") or text(item, "LocalNamespaceEntityID")
            if found:
                return found
    return ""


def _procedure_codes(datasets: list[Elements]) -> tuple[Code, ...]:
    found: dict[tuple[str, str], Code] = {}
    for dataset in datasets:
        requests = items(dataset, "RequestAttributesSequence")
        for holder in (dataset, *requests):
            for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
                for item in items(holder, keyword):
                    scheme, value = text(item, "CodingSchemeDesignator"), text(item, "CodeValue")
                    if value:
                        found.setdefault((scheme, value), Code(scheme, value, text(item, "CodeMeaning")))
    return tuple(found.values())


def _indication(datasets: list[Elements]) -> str:
    for dataset in datasets:
        for holder in (*items(dataset, "RequestAttributesSequence"), dataset):
            for keyword in _INDICATIONS:
                found = text(holder, keyword)
                if found:
                    return found
    return ""


def _description(header: Header) -> InstanceDescription:
    dataset = header.dataset
    named, side = certain_part_of(dataset), side_of(dataset)
    return InstanceDescription(
        ref=instance_ref(dataset),
        sop_class_uid=text(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality"),
        series_number=_ordinal(dataset, "SeriesNumber"),
        series_description=text(dataset, "SeriesDescription"),
        body_part=text(dataset, "BodyPartExamined"),
        instance_number=_ordinal(dataset, "InstanceNumber"),
        laterality=side.letter or text(dataset, "ImageLaterality") or text(dataset, "Laterality"),
        view_position=text(dataset, "ViewPosition"),
        part=named.part.code if named else None,
        part_term=named.part.term if named else "",
    )


def _ordinal(dataset: Elements, keyword: str) -> int | None:
    """A number as FHIR's unsignedInt can hold it (R4 2.24.0.1; PS3.5 6.2 bounds IS alike), else None."""
    value = integer(dataset, keyword)
    return value if value is not None and 0 <= value < 1 << 31 else None
