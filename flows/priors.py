"""An earlier study of the same patient, fetched for comparison where the site's policy asks for it.

The same patient is the same PatientID of the same issuer in the same archive, read from the headers of what came: an
archive's own matching is not believed. Without a PatientID nobody is the same.
"""

import logging
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from flows.environment.workplace import Workplace
from flows.fetching import fetch_study
from pipeline.archive import Archive
from pipeline.errors import FailStudy, RetryLater, SkipStudy
from pipeline.images import prepare, read_headers
from pipeline.patient_number import identifying
from pipeline.report import CheckOutcome, PriorStudy, Verdict
from pipeline.study import ImageSet, StudyQuery
from pipeline.study_context import PatientIdentity, StudyContext

log = logging.getLogger(__name__)

MOST_TRIED = 3
"""Earlier studies looked at before the search ends: the newest may be no chest film, or another patient's."""

_NOT_SEARCHABLE = frozenset("*?\\,")
"""Wild cards and separators of matching (PS3.4 C.2.2.2, PS3.18 8.3.4); Orthanc takes a comma for OR."""
_UNSEARCHABLE = CheckOutcome(
    "prior",
    Verdict.WARNED,
    "the patient's number holds a sign that a search cannot ask for; no earlier study was looked for",
)
_UNPROVED = CheckOutcome(
    "prior",
    Verdict.WARNED,
    "the archive does not find this study by the patient's number either, which holds a sign beyond letters and "
    "digits: earlier studies may have been missed",
)
_UNSEEN = CheckOutcome(
    "prior",
    Verdict.WARNED,
    "an earlier study of this patient could not be fetched; nothing was compared with it",
)


@dataclass(frozen=True, slots=True)
class Compared:
    """The image set, with an earlier frontal film in its ``priors`` where one was found.

    ``prior`` and ``earlier`` are the study of that film and its headers."""

    image_set: ImageSet
    prior: PriorStudy | None = None
    earlier: StudyContext | None = None
    remarks: tuple[CheckOutcome, ...] = ()


def with_last_prior(
    workplace: Workplace, archive: str, context: StudyContext, image_set: ImageSet
) -> Compared:
    """With the frontal film of the patient's newest study of an earlier day, where there is one.

    Films of the chest alone are compared. A search or retrieval that fails costs the comparison, not the draft: it is a
    remark. Raises StopRun only.
    """
    if not image_set.chest:
        return Compared(image_set)
    number = context.patient.patient_id.strip()
    if identifying(number) and (_NOT_SEARCHABLE & set(number) or not number.isascii()):
        return Compared(image_set, remarks=(_UNSEARCHABLE,))
    try:
        for uid in _earlier_studies(workplace, archive, context):
            try:
                return with_prior(workplace, archive, context, image_set, uid)
            except (SkipStudy, FailStudy) as error:
                log.info("an earlier study is not compared with: %s", error.code)
        found = not identifying(number) or finds_itself(
            workplace.archive(archive), number, context.study_instance_uid
        )
    except RetryLater as error:
        log.warning("an earlier study could not be fetched: %s", error.code)
        return Compared(image_set, remarks=(_UNSEEN,))
    return Compared(image_set, remarks=() if found else (_UNPROVED,))


def finds_itself(archive: Archive, patient_id: str, study_instance_uid: str) -> bool:
    """Whether a search by the patient's number can be believed: it finds the study whose number it is.

    Asked only where the number holds a sign beyond letters and digits: Orthanc's QIDO-RS finds none that holds, say, a
    space, and says nothing of it. Raises RetryLater and StopRun as ``Archive.find``.
    """
    if not re.search(r"[^A-Za-z0-9._-]", patient_id):
        return True
    found = archive.find(StudyQuery(patient_id=patient_id))
    return any(study.study_instance_uid == study_instance_uid for study in found)


def with_prior(
    workplace: Workplace, archive: str, context: StudyContext, image_set: ImageSet, study_instance_uid: str
) -> Compared:
    """With the frontal film of a named study.

    Raises FailStudy where it is not of the same patient or not earlier, SkipStudy where it has no film for a model,
    RetryLater where it could not be fetched.
    """
    folder = workplace.private_folder(f"prior-{uuid.uuid4().hex}")
    try:
        fetched = fetch_study(workplace, archive, study_instance_uid, folder)
        read = read_headers(fetched, rules=workplace.rules(archive))
        sides = (workplace.reader.longest_side, *workplace.reader.smaller_sides)
        earlier, images = prepare(fetched, read, sides=sides, trust=workplace.trust(archive))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not same_patient(earlier.patient, context.patient):
        raise FailStudy("prior-patient", "the earlier study is not of this patient, by PatientID and issuer")
    if earlier.started is None or context.started is None or _day(earlier) > _day(context):
        raise FailStudy("prior-date", "the study to compare with is not an earlier one, by its date")
    prior = PriorStudy(study_instance_uid, _day(earlier))
    return Compared(replace(image_set, priors=images.images[:1]), prior, earlier)


def same_patient(one: PatientIdentity, other: PatientIdentity) -> bool:
    """True for the same PatientID of the same issuer, birth dates not at odds; never by one that identifies nobody."""
    numbers = {(identity.patient_id.strip(), identity.issuer.strip()) for identity in (one, other)}
    births = {identity.birth_date for identity in (one, other)} - {None}
    return len(numbers) == 1 and bool(identifying(one.patient_id)) and len(births) <= 1


def _earlier_studies(workplace: Workplace, archive: str, context: StudyContext) -> Iterator[str]:
    """Study Instance UIDs of earlier days, newest first, of a patient whose number a search can ask for."""
    number = context.patient.patient_id.strip()
    if not identifying(number) or context.started is None:
        return
    query = StudyQuery(until=_day(context) - timedelta(days=1), patient_id=number)
    found = [
        study
        for study in workplace.archive(archive).find(query)
        if study.study_date is not None and study.study_instance_uid != context.study_instance_uid
    ]
    found.sort(key=lambda study: (study.study_date or date.min, study.study_instance_uid), reverse=True)
    for study in found[:MOST_TRIED]:
        yield study.study_instance_uid


def _day(context: StudyContext) -> date:
    assert context.started is not None
    return context.started.date()
