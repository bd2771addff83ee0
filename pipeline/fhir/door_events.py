"""AuditEvents of who comes in and who is sent away, of what is read out, and of a changed configuration (PS3.15 A.5.3).

The network address is all that the web knows of a person, since there is one token; a command knows the account.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pipeline.fhir.audit_parts import (
    DESTINATION,
    MINOR_FAILURE,
    SOURCE,
    SUCCESS,
    acting,
    activity,
    archive_agent,
    event_body,
    ourselves,
    peer_agent,
    study_entity,
)
from pipeline.fhir.elements import DICOM, Body, clean, coding
from pipeline.fhir.site import Site

_AUTHENTICATION = coding(DICOM, "110114", "User Authentication")
_LOGIN = coding(DICOM, "110122", "Login")
_LOGOUT = coding(DICOM, "110123", "Logout")
_ALERT = coding(DICOM, "110113", "Security Alert")
_NODE = coding(DICOM, "110126", "Node Authentication")
_LOG_USED = coding(DICOM, "110101", "Audit Log Used")
_SOFTWARE = coding(DICOM, "110131", "Software Configuration")
_TRANSFERRED = coding(DICOM, "110104", "DICOM Instances Transferred")
_IMPORT = coding(DICOM, "110107", "Import")


class Door(Protocol):
    """What the web tells of a door; ``pipeline.web.reader.DoorEvent`` is one."""

    @property
    def kind(self) -> str: ...
    @property
    def agent(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def recorded(self) -> datetime: ...


def door(event: Door) -> Body:
    """A sign-in or sign-out, or how often an address was refused since the last event about it."""
    if event.kind in ("signed-in", "signed-out"):
        body = event_body(_AUTHENTICATION, "E", event.recorded, "")
        body["subtype"] = [_LOGIN if event.kind == "signed-in" else _LOGOUT]
    else:
        wrong = event.kind in ("wrong-token", "wrong-bearer")
        body = event_body(_AUTHENTICATION if wrong else _ALERT, "E", event.recorded, "", MINOR_FAILURE)
        body["subtype"] = [_LOGIN if wrong else _NODE]
        body["outcomeDesc"] = clean(f"refused {event.count} times: {event.kind}")
    body["agent"] = [peer_agent(SOURCE, event.agent), ourselves(DESTINATION, requestor=False)]
    return body


def audit_read(organization: str, asked_by: str, when: datetime) -> Body:
    """A person wrote the audit out of the store."""
    body = event_body(_LOG_USED, "R", when, organization)
    body["agent"] = acting(asked_by)
    return body


def configuration_changed(organization: str, asked_by: str, keys: Sequence[str], when: datetime) -> Body:
    """A command began with other settings than the one before it on this machine: their names, never values."""
    body = activity(_SOFTWARE, organization, when)
    body["outcomeDesc"] = clean(f"settings changed: {', '.join(keys)}")
    body["agent"] = acting(asked_by)
    return body


def study_tried(
    site: Site,
    study_instance_uid: str,
    asked_by: str,
    count: int,
    when: datetime,
    *,
    command: str,
    succeeded: bool,
    imported: bool,
) -> Body:
    """A person had a study retrieved to look at it by ``command`` of firstread; it is not kept."""
    outcome = SUCCESS if succeeded else MINOR_FAILURE
    body = event_body(_IMPORT if imported else _TRANSFERRED, "C", when, site.organization, outcome)
    body["outcomeDesc"] = f"tried by {command}, not kept"
    body["agent"] = [*acting(asked_by), archive_agent(SOURCE, site)]
    study = study_entity(study_instance_uid)
    study["detail"] = [{"type": "instances", "valueString": str(count)}]
    body["entity"] = [study]
    return body
