"""Values that the headers of a study give beside its pixels: the patient, the order, the instances as they describe
themselves. Standard library only; all of it is patient data (docs/design.md#patient-data).
"""

from dataclasses import dataclass
from datetime import date, datetime

from pipeline.study import Code, InstanceRef


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The patient module as it came (PS3.3 C.7.1.1), decoded to Unicode; empty strings where absent.

    ``name_groups`` holds the alphabetic, ideographic and phonetic component groups of PatientName (PS3.5 6.2.1), each
    with its ``^`` separators.
    """

    patient_id: str = ""
    issuer: str = ""
    name_groups: tuple[str, ...] = ()
    birth_date: date | None = None
    sex: str = ""


@dataclass(frozen=True, slots=True)
class InstanceDescription:
    """One instance of the study as its own header described it, for the ImagingStudy resource."""

    ref: InstanceRef
    sop_class_uid: str
    modality: str
    series_number: int | None = None
    series_description: str = ""
    body_part: str = ""
    instance_number: int | None = None
    laterality: str = ""
    """L, R, B or U (PS3.3 C.7.6.16.2.8), else as the header has it."""
    view_position: str = ""
    part: Code | None = None
    """The body part as SNOMED CT codes it, where a code or a defined term says so."""
    part_term: str = ""
    """The same as Body Part Examined has it."""


@dataclass(frozen=True, slots=True)
class StudyContext:
    """What the headers say about the study, beside the pixels. Patient data: stays inside the boundary."""

    study_instance_uid: str
    patient: PatientIdentity
    accession_number: str = ""
    accession_issuer: str = ""
    study_id: str = ""
    started: datetime | None = None
    description: str = ""
    institution: str = ""
    procedure_codes: tuple[Code, ...] = ()
    indication: str = ""
    persons: tuple[str, ...] = ()
    """Further persons whom the headers name, and further names of the patient."""
    identifiers: tuple[str, ...] = ()
    """Further numbers and addresses of the headers that lead to a person."""
    instances: tuple[InstanceDescription, ...] = ()
