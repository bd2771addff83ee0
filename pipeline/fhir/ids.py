"""Deterministic ids: the same study, recipe and input give the same ids; a second PUT changes nothing."""

import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:firstread:fhir")


def resource_id(kind: str, *parts: str) -> str:
    """A UUID version 5 over ``kind`` and ``parts``, kept apart: ("a", "bc") is not ("ab", "c")."""
    name = "".join(f"{len(part)}:{part}" for part in (kind, *parts))
    return str(uuid.uuid5(_NAMESPACE, name))


def report_id(archive: str, study_instance_uid: str) -> str:
    """The DiagnosticReport of a study: one for all its versions."""
    return resource_id("report", archive, study_instance_uid)


def run_id(
    kind: str, archive: str, study_instance_uid: str, recipe: str, manifest_digest: str, key: str = ""
) -> str:
    """A resource of one run of one recipe over one input."""
    return resource_id(kind, archive, study_instance_uid, recipe, manifest_digest, key)
