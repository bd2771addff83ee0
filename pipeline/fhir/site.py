"""What a site decides about its reports: names, identifier systems, the status of a draft."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from pipeline.errors import ConfigurationError

DRAFT_STATUSES = ("partial", "preliminary")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a study came from and who answers for its report.

    ``archive`` names the archive, ``organization`` performs the report, ``identifier_system`` is the base
    URI of local identifier systems, ``draft_status`` is a value of ``DRAFT_STATUSES``. Raises
    ConfigurationError for any other. ``time_zone`` is the IANA zone in which the archive dates its studies, or "".
    """

    archive: str
    organization: str
    identifier_system: str
    draft_status: str = "partial"
    time_zone: str = ""

    def __post_init__(self) -> None:
        if not self.identifier_system or re.search(r"\s", self.identifier_system):
            raise ConfigurationError(
                "identifier-system", "policy.identifier_system must be a URI without spaces"
            )
        if self.draft_status not in DRAFT_STATUSES:
            message = f"policy.draft_status must be one of {', '.join(DRAFT_STATUSES)}"
            raise ConfigurationError("draft-status", message)

    def system(self, *parts: str) -> str:
        """The identifier system of a local namespace of this archive, such as "accession"."""
        separator = ":" if self.identifier_system.startswith("urn:") else "/"
        quoted = (quote(part, safe="") for part in (self.archive, *parts))
        return separator.join((self.identifier_system.rstrip(":/"), *quoted))


def uid_identifier(study_instance_uid: str) -> dict[str, str]:
    """A DICOM UID as a FHIR identifier (R4 ImagingStudy, notes)."""
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{study_instance_uid}"}
