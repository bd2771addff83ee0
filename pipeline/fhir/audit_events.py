"""AuditEvents of what Firstread does and shows, as pure functions (R4 AuditEvent, PS3.15 A.5, IHE BALP).

Archive acts carry DICOM codes; report writes and REST accesses follow the BALP profiles, which are claimed
only for success. Events name the study and the patient: the audit lies inside the patient-data boundary. Each
function gives a body without an id; the store chains it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pipeline.fhir.audit_parts import (
    ACTIVITY,
    DESTINATION,
    MINOR_FAILURE,
    SOURCE,
    SUCCESS,
    acting,
    activity,
    archive_agent,
    bare_study,
    event_body,
    ourselves,
    patient_entity,
    peer_agent,
    query_entity,
    resource_entity,
    sender_agent,
    study_entity,
)
from pipeline.fhir.elements import DICOM, Body, clean, coding, instant, reference
from pipeline.fhir.patient import patient_reference
from pipeline.fhir.site import Site
from pipeline.ledger import Claim, LedgerState, Resource
from pipeline.study_context import StudyContext

_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_X_REQUEST_ID = coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId")
_INTERACTIONS = "http://hl7.org/fhir/restful-interaction"
_REST = coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest", "RESTful Operation")
_BEGIN = coding(DICOM, "110102", "Begin Transferring DICOM Instances")
_TRANSFERRED = coding(DICOM, "110104", "DICOM Instances Transferred")
_EXPORT = coding(DICOM, "110106", "Export")
_IMPORT = coding(DICOM, "110107", "Import")
_ALERT = coding(DICOM, "110113", "Security Alert")
_NODE_AUTHENTICATION = coding(DICOM, "110126", "Node Authentication")
_ACCESSED = coding(DICOM, "110103", "DICOM Instances Accessed")
_QUERY = coding(DICOM, "110112", "Query")
_STARTED = coding(DICOM, "110120", "Application Start")
_STOPPED = coding(DICOM, "110121", "Application Stop")


class RestAccess(Protocol):
    """One read or search that the web answers; ``pipeline.web.reader.Access`` is one."""

    @property
    def interaction(self) -> str: ...
    @property
    def resource_type(self) -> str: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def patients(self) -> Sequence[str]: ...
    @property
    def agent(self) -> str: ...
    @property
    def recorded(self) -> datetime: ...
    @property
    def succeeded(self) -> bool: ...
    @property
    def request_id(self) -> str: ...
    @property
    def person(self) -> str: ...


def application_started(organization: str, when: datetime) -> Body:
    """A command that works on studies or serves reports began."""
    return activity(_STARTED, organization, when)


def application_stopped(organization: str, when: datetime) -> Body:
    """It ended in order."""
    return activity(_STOPPED, organization, when)


def archive_query(site: Site, query: str, when: datetime, *, succeeded: bool = True) -> Body:
    """The archive was asked for studies; ``query`` is what was asked, never what came."""
    body = event_body(_QUERY, "E", when, site.organization, SUCCESS if succeeded else MINOR_FAILURE)
    body["agent"] = [ourselves(SOURCE, requestor=True), archive_agent(DESTINATION, site)]
    body["entity"] = [query_entity(query)]
    return body


def transfer_begun(site: Site, study_instance_uid: str, when: datetime) -> Body:
    """Retrieval of a study was asked for."""
    body = event_body(_BEGIN, "E", when, site.organization)
    body["agent"] = [archive_agent(SOURCE, site), ourselves(DESTINATION, requestor=True)]
    body["entity"] = [study_entity(study_instance_uid)]
    return body


def study_received(site: Site, context: StudyContext, when: datetime, *, imported: bool = False) -> Body:
    """A study's instances came here: transferred by an archive, or ``imported`` from a folder."""
    body = event_body(_IMPORT if imported else _TRANSFERRED, "C", when, site.organization)
    body["agent"] = [archive_agent(SOURCE, site), ourselves(DESTINATION, requestor=True)]
    study = study_entity(context.study_instance_uid)
    study["detail"] = [{"type": "instances", "valueString": str(len(context.instances))}]
    body["entity"] = [study, patient_entity(patient_reference(context, site))]
    return body


def instances_pushed(
    site: Site,
    study_instance_uid: str,
    sender: str,
    instances: Sequence[tuple[str, str, datetime]],
    when: datetime,
    context: StudyContext | None = None,
) -> Body:
    """Instances that ``sender`` ("AE title@address") sent on its own: SOP Instance UID, SHA-256 and time of each."""
    title, _, address = sender.rpartition("@")
    body = event_body(_TRANSFERRED, "C", when, site.organization)
    body["agent"] = [sender_agent(title or sender, address), ourselves(DESTINATION, requestor=False)]
    study = study_entity(study_instance_uid)
    study["detail"] = [{"type": "instances", "valueString": str(len(instances))}]
    study["detail"] += [
        {"type": uid, "valueString": f"sha256 {digest}, received {instant(at)}"}
        for uid, digest, at in instances
    ]
    body["entity"] = [study]
    if context is not None:
        body["entity"].append(patient_entity(patient_reference(context, site)))
    return body


def sender_refused(
    organization: str, calling: str, address: str, reason: str, count: int, when: datetime
) -> Body:
    """A sender was turned away ``count`` times since the last event about it (PS3.15 A.5.3, Security Alert)."""
    body = event_body(_ALERT, "E", when, organization, MINOR_FAILURE)
    body["subtype"] = [_NODE_AUTHENTICATION]
    body["outcomeDesc"] = clean(f"refused {count} times: {reason}")
    body["agent"] = [sender_agent(calling, address), ourselves(DESTINATION, requestor=False)]
    return body


def study_asked(site: Site, context: StudyContext, task: str, model: str, when: datetime) -> Body:
    """A person asked a model about a study; the answer was shown and not kept."""
    body = event_body(_ACCESSED, "R", when, site.organization)
    body["agent"] = [ourselves(SOURCE, requestor=True)]
    study = study_entity(context.study_instance_uid)
    study["detail"] = [
        {"type": "task", "valueString": clean(task)},
        {"type": "model", "valueString": clean(model)},
    ]
    body["entity"] = [study, patient_entity(patient_reference(context, site))]
    return body


def report_written(
    site: Site, resources: Sequence[Resource], when: datetime, *, updated: bool = False
) -> Body:
    """A report and what belongs to it were stored: BALP PatientCreate, or PatientUpdate of an earlier one."""
    report = next(one.body for one in resources if one.resource_type == "DiagnosticReport")
    code, action, profile = ("update", "U", "PatientUpdate") if updated else ("create", "C", "PatientCreate")
    body = _rest(code, action, when, site.organization, profile)
    body["agent"] = [ourselves(SOURCE, requestor=True), ourselves(DESTINATION, requestor=False)]
    written = resource_entity("DiagnosticReport", report["id"])
    written["detail"] = [{"type": "status", "valueString": report["status"]}]
    study = study_entity(report["imagingStudy"][0]["identifier"]["value"].removeprefix("urn:oid:"))
    body["entity"] = [
        written,
        patient_entity({"reference": report["subject"]["reference"]}),
        bare_study(study),
    ]
    return body


def study_settled(site: Site, claim: Claim, state: LedgerState, code: str, when: datetime) -> Body:
    """A study came to rest without a report; ``code`` says why. Skipping is a success, failing is not."""
    failed = state is LedgerState.FAILED
    body = event_body(ACTIVITY, "E", when, site.organization, MINOR_FAILURE if failed else SUCCESS)
    body["outcomeDesc"] = clean(f"{state.value}: {code}")
    body["agent"] = [ourselves(SOURCE, requestor=True)]
    body["entity"] = [study_entity(claim.study_instance_uid)]
    return body


def study_reopened(
    site: Site, study_instance_uid: str, asked_by: str, why: str, when: datetime, *, again: bool = False
) -> Body:
    """A study at rest was made to be worked on again: by a person, or by the machine (``asked_by`` "") for ``why``."""
    body = event_body(ACTIVITY, "E", when, site.organization)
    body["outcomeDesc"] = clean(f"reopened{' to be drafted anew' if again else ''}: {why}")
    body["agent"] = acting(asked_by)
    body["entity"] = [study_entity(study_instance_uid)]
    return body


def report_restored(
    site: Site, study_instance_uid: str, report_id: str, patient: str, when: datetime
) -> Body:
    """The former draft of the recipe in force is the current version of its report again; nothing was drafted."""
    return _report_changed(
        site, study_instance_uid, report_id, patient, "", when, "former draft made current again"
    )


def report_retired(
    site: Site, study_instance_uid: str, report_id: str, patient: str, asked_by: str, why: str, when: datetime
) -> Body:
    """A person had a wrong draft withdrawn, for the reason ``why``."""
    return _report_changed(site, study_instance_uid, report_id, patient, asked_by, when, f"retired: {why}")


def drafts_exported(organization: str, asked_by: str, query: str, when: datetime) -> Body:
    """A person wrote reports out of the store; ``query`` is what was asked for, never what came."""
    body = event_body(_EXPORT, "R", when, organization)
    body["agent"] = acting(asked_by)
    body["entity"] = [query_entity(query)]
    return body


def rest_access(access: RestAccess) -> tuple[Body, ...]:
    """BALP Read or Query: one event per patient shown, one without a patient where none was."""
    patients: Sequence[str] = access.patients or ("",)
    return tuple(_access(access, one) for one in patients)


def _access(access: RestAccess, patient: str) -> Body:
    search = access.interaction.startswith("search")
    many = search or access.interaction in ("history-type", "history-system", "operation")
    named = ("Patient" if patient else "") + ("Query" if search else "Read")
    profile = (
        named
        if access.succeeded and (search or not many) and access.interaction != "history-instance"
        else ""
    )
    body = _rest(str(access.interaction), "E" if search else "R", access.recorded, "", profile)
    body["outcome"] = SUCCESS if access.succeeded else MINOR_FAILURE
    client, server = (SOURCE, DESTINATION) if search else (DESTINATION, SOURCE)
    body["agent"] = [peer_agent(client, access.agent, access.person), ourselves(server, requestor=False)]
    if many:
        part = "$export" if access.interaction == "operation" else "_history"
        path = access.resource_type if search else f"{access.resource_type}/{part}".removeprefix("/")
        shown = query_entity(f"{path}?{access.query}")
    else:
        shown = resource_entity(access.resource_type, access.resource_id)
    body["entity"] = [shown]
    if patient:
        body["entity"].append(patient_entity(reference("Patient", patient)))
    if request_id := clean(access.request_id):
        body["entity"].append({"type": _X_REQUEST_ID, "what": {"identifier": {"value": request_id}}})
    return body


def _report_changed(
    site: Site,
    study_instance_uid: str,
    report_id: str,
    patient: str,
    asked_by: str,
    when: datetime,
    said: str,
) -> Body:
    body = _rest("update", "U", when, site.organization, "PatientUpdate" if patient else "")
    body["outcomeDesc"] = clean(said)
    body["agent"] = [*acting(asked_by), ourselves(DESTINATION, requestor=False)]
    body["entity"] = [resource_entity("DiagnosticReport", report_id)]
    if patient:
        body["entity"].append(patient_entity(reference("Patient", patient)))
    body["entity"].append(bare_study(study_entity(study_instance_uid)))
    return body


def _rest(code: str, action: str, when: datetime, organization: str, profile: str) -> Body:
    body = event_body(_REST, action, when, organization)
    body["subtype"] = [coding(_INTERACTIONS, code, code)]
    if profile:
        body["meta"] = {"profile": [_BALP + profile]}
    return body
