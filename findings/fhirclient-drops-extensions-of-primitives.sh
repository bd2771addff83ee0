#!/usr/bin/env bash
# fhirclient reads a report whose conclusion bears a security label and writes it without: no error, no warning.
#
# Versions: fhirclient 4.4.0; fhir.resources 8.3.0 (its R4B models) beside it keeps all.
# Expected: an element `_name` beside a primitive holds its extensions and id (R4 section 2.6.2.2, json.html#primitive)
#   and is part of the resource: it comes back from as_json(), or the strict constructor refuses it.
# Seen: `_conclusion` (an inline security label) and `_effectiveDateTime` (why there is no date) are gone; what was
#   labelled "written by a machine" is a bare conclusion afterwards. The constructor is strict by default and does
#   refuse an unknown element without the underscore.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check fhirclient==4.4.0 fhir.resources==8.3.0
timeout 60 v/bin/python -W error - <<'PY'
import json

from fhir.resources.R4B.diagnosticreport import DiagnosticReport as Kept
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.fhirabstractbase import FHIRValidationError

label = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
absent = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
report = {
    "resourceType": "DiagnosticReport",
    "status": "partial",
    "code": {"text": "Chest PA"},
    "_effectiveDateTime": {"extension": [{"url": absent, "valueCode": "unknown"}]},
    "conclusion": "Nodule in the right upper zone.",
    "_conclusion": {"extension": [{"url": label, "valueCoding": {"code": "AIAST"}}]},
}
written = DiagnosticReport(report).as_json()
print("read:   ", sorted(report))
print("written:", sorted(written))
assert sorted(set(report) - set(written)) == ["_conclusion", "_effectiveDateTime"]
assert written["conclusion"] == report["conclusion"]
try:
    DiagnosticReport(report | {"conclusions": "x"})
except FHIRValidationError as error:
    print("an unknown element is refused:", str(error).splitlines()[-1].strip())
else:
    raise SystemExit("an unknown element was taken")
assert json.loads(Kept.model_validate(report).model_dump_json()) == report
PY
