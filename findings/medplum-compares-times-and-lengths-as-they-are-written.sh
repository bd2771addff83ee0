#!/usr/bin/env bash
# Medplum's FHIRPath compares times and lengths as they are written: 5 mm > 1 cm is true, and 28 February + 2 days text.
#
# Versions: @medplum/core 4.5.2, fhirpath.js 5.2.2 (npm).
# Expected (FHIRPath 2.0.0): instants are compared after they are brought to one zone; quantities of one dimension
#   after they are brought to one unit; a date that may lie before or after another, for it says less, gives empty; a
#   date plus days is a date; an extension of a primitive is found on it.
# Seen: a report issued 2024-01-31T23:30:00-05:00, which is 1 February 04:30 UTC, is not after midnight UTC, for
#   "2024-01-31" sorts before. 5 'mm' > 1 'cm' is true and a nodule of 1.5 cm is not > 10 'mm'. 2024-01 < 2024-01-15 is
#   true, not empty. @2024-02-28 + 2 days is "2024-02-282". The extension on conclusion is not there. No error
#   anywhere. fhirpath.js: true, false, true, empty, 2024-03-01, the extension.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
timeout 300 npm install --silent --no-fund --no-audit --prefix "$work" @medplum/core@4.5.2 fhirpath@5.2.2 >/dev/null 2>&1
cat >asks.cjs <<'JS'
const medplum = require("@medplum/core");
const fhirpath = require("fhirpath");
const r4 = require("fhirpath/fhir-context/r4");
const report = {
  resourceType: "DiagnosticReport", status: "final", code: { text: "CT" },
  effectiveDateTime: "2024-01", issued: "2024-01-31T23:30:00-05:00",
  conclusion: "Nodule.", _conclusion: { extension: [{ url: "http://example.org/made-by", valueCode: "machine" }] },
  contained: [{
    resourceType: "Observation", id: "o1", status: "final", code: { text: "diameter" },
    valueQuantity: { value: 1.5, unit: "cm", system: "http://unitsofmeasure.org", code: "cm" },
  }],
};
const asked = [
  ["DiagnosticReport.issued > @2024-02-01T00:00:00Z", "[false]", "[true]"],
  ["5 'mm' > 1 'cm'", "[true]", "[false]"],
  ["DiagnosticReport.contained.value > 10 'mm'", "[false]", "[true]"],
  ["DiagnosticReport.effective < @2024-01-15", "[true]", "[]"],
  ["@2024-02-28 + 2 days", '["2024-02-282"]', '["2024-03-01"]'],
  ["DiagnosticReport.conclusion.extension('http://example.org/made-by').value", "[]", '["machine"]'],
];
let same = true;
for (const [path, first, second] of asked) {
  const theirs = JSON.stringify(medplum.evalFhirPath(path, report));
  const other = JSON.stringify(fhirpath.evaluate(report, path, null, r4).map((one) => one.asStr || one));
  console.log(path, "| medplum", theirs, "| fhirpath.js", other);
  same = same && theirs === first && other === second;
}
process.exit(same ? 0 : 1);
JS
timeout 60 node asks.cjs
