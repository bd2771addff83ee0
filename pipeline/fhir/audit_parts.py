"""The parts that every AuditEvent is made of: its body, who took part, what it was about (R4 AuditEvent)."""

import base64
import re
import socket
from datetime import datetime
from functools import cache

from pipeline.fhir.elements import DICOM, Body, clean, coding, concept, instant, reference
from pipeline.fhir.site import Site, uid_identifier

SUCCESS, MINOR_FAILURE = "0", "4"
APPLICATION = "Firstread"
_ENTITY_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_APPLICATION_SERVER = coding(
    "http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server"
)
_PERSON = coding(_ENTITY_TYPES, "1", "Person")
_SYSTEM_OBJECT = coding(_ENTITY_TYPES, "2", "System Object")
SOURCE = coding(DICOM, "110153", "Source Role ID")
DESTINATION = coding(DICOM, "110152", "Destination Role ID")
ACTIVITY = coding(DICOM, "110100", "Application Activity")
LAUNCHER = coding(DICOM, "110151", "Application Launcher")
_ADDRESS, _MACHINE = "2", "1"
_RESOURCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII)


def acting(asked_by: str) -> list[Body]:
    """Who acts: the person who asked, by the name that they gave or log in by, and this program."""
    if not (name := clean(asked_by)):
        return [ourselves(SOURCE, requestor=True)]
    person = {"who": {"identifier": {"system": "urn:firstread:person", "value": name}, "display": name}}
    return [
        {**person, "type": concept(LAUNCHER), "name": name, "requestor": True},
        ourselves(SOURCE, requestor=False),
    ]


def activity(subtype: Body, organization: str, when: datetime) -> Body:
    """Something that this program did by itself (DCM 110100), as ``subtype`` says."""
    body = event_body(ACTIVITY, "E", when, organization)
    body["subtype"] = [subtype]
    body["agent"] = [ourselves(LAUNCHER, requestor=True)]
    return body


def event_body(kind: Body, action: str, when: datetime, organization: str, outcome: str = SUCCESS) -> Body:
    """An event without agents and entities; ``action`` is one of C, R, U, D and E, ``outcome`` "0" or "4"."""
    source: Body = {"observer": _application(), "type": [_APPLICATION_SERVER]}
    if site := clean(organization):
        source["site"] = site
    return {
        "resourceType": "AuditEvent",
        "type": kind,
        "action": action,
        "recorded": instant(when),
        "outcome": outcome,
        "source": source,
    }


def _application() -> Body:
    return {
        "identifier": {"system": "urn:firstread:application", "value": APPLICATION},
        "display": APPLICATION,
    }


def ourselves(role: Body, *, requestor: bool) -> Body:
    """This program on this machine, in ``role``."""
    network = {"address": _machine(), "type": _MACHINE}
    return {"type": concept(role), "who": _application(), "requestor": requestor, "network": network}


def archive_agent(role: Body, site: Site) -> Body:
    """The archive of ``site``, in ``role``."""
    who = {"identifier": {"system": "urn:firstread:archive", "value": site.archive}, "display": site.archive}
    return {"type": concept(role), "who": who, "requestor": False}


def peer_agent(role: Body, address: str, person: str = "") -> Body:
    """Whoever called from a network ``address``, in ``role``; by name where ``person`` is known."""
    known, name = clean(address) or "unknown", clean(person)
    who: Body = {"identifier": {"system": "urn:firstread:peer", "value": known}}
    named: Body = {}
    if name:
        who = {"identifier": {"system": "urn:firstread:person", "value": name}, "display": name}
        named = {"name": name}
    network = {"address": known, "type": _ADDRESS}
    return {"type": concept(role), "who": who, **named, "requestor": True, "network": network}


def sender_agent(title: str, address: str) -> Body:
    """A DICOM sender by its calling AE title and address."""
    name = clean(title) or "unknown"
    who = {"identifier": {"system": "urn:firstread:ae-title", "value": name}, "display": name}
    network = {"address": clean(address) or "unknown", "type": _ADDRESS}
    return {"type": concept(SOURCE), "who": who, "name": name, "requestor": True, "network": network}


def study_entity(study_instance_uid: str) -> Body:
    """A study by its Study Instance UID."""
    what = {"type": "ImagingStudy", "identifier": uid_identifier(study_instance_uid)}
    return {"what": what, "type": _SYSTEM_OBJECT, "role": coding(_ROLES, "3", "Report")}


def bare_study(study: Body) -> Body:
    """A study beside the written resource: BALP has one System Object, so this one goes without a type."""
    return {"what": study["what"], "role": study["role"]}


def patient_entity(patient: Body) -> Body:
    """A patient by a reference."""
    return {"what": patient, "type": _PERSON, "role": coding(_ROLES, "1", "Patient")}


def resource_entity(resource_type: str, resource_id: str) -> Body:
    """A resource by reference; what was asked for and cannot be an id is shown as it was asked."""
    what = reference(resource_type, resource_id)
    if not _RESOURCE.fullmatch(what["reference"]):
        what = {"display": clean(what["reference"])}
    return {"what": what, "type": _SYSTEM_OBJECT, "role": coding(_ROLES, "4", "Domain Resource")}


def query_entity(query: str) -> Body:
    """The query as it was asked, in base64; the empty one, which asks for all, as an asterisk."""
    encoded = base64.b64encode((query or "*").encode("utf-8", "surrogatepass")).decode("ascii")
    return {"type": _SYSTEM_OBJECT, "role": coding(_ROLES, "24", "Query"), "query": encoded}


@cache
def _machine() -> str:
    return socket.gethostname() or "localhost"
