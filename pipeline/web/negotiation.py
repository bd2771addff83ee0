"""Which format the client takes (R4 section 3.1.0.1.11): this server writes JSON only."""

import re
from collections.abc import Sequence

from pipeline.web.outcomes import FhirError

_JSON = frozenset({"json", "application/json", "application/fhir+json", "application/fhir json", "text/json"})
_ANY = frozenset({"*/*", "application/*"})
_ZERO = re.compile(r"q=0(?:\.0*)?")


def require_json(accept: str | None, parameters: Sequence[tuple[str, str]]) -> None:
    """Raise FhirError 406 unless JSON is acceptable; ``_format`` wins over the Accept header."""
    formats = [value for name, value in parameters if name == "_format" and value]
    if formats:
        acceptable = all(_acceptable(value, _JSON) for value in formats)
    else:
        acceptable = not accept or any(_acceptable(part, _JSON | _ANY) for part in accept.split(","))
    if not acceptable:
        raise FhirError(406, "not-supported", "this server writes application/fhir+json, FHIR 4.0, only")


def _acceptable(written: str, kinds: frozenset[str]) -> bool:
    kind, *options = (part.strip().lower() for part in written.split(";"))
    versions = [option for option in options if option.startswith("fhirversion=")]
    wanted = all(version.split("=", 1)[1].strip('"') in ("4.0", "4.0.1") for version in versions)
    return kind in kinds and wanted and not any(_ZERO.fullmatch(option) for option in options)
