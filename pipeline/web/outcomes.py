"""FHIR answers: JSON with the right type, and an OperationOutcome for every refusal."""

import json
from collections.abc import Mapping

from starlette.responses import Response

FHIR_JSON = "application/fhir+json; charset=utf-8"


class FhirError(Exception):
    """A refusal: HTTP status, issue code (http://hl7.org/fhir/issue-type) and a sentence for developers.

    The sentence names parameters and rules, never values: it reaches the other side's logs.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The refusal as an OperationOutcome."""
        return outcome(self.status, self.code, self.message, self.headers)


def outcome(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An OperationOutcome with one issue of severity error."""
    body = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": message}],
    }
    return fhir_response(json.dumps(body), status=status, headers=headers)


def fhir_response(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` (JSON text) as application/fhir+json."""
    return Response(body, status_code=status, headers=dict(headers or {}), media_type=FHIR_JSON)
