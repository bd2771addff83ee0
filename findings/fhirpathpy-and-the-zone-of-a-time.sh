#!/usr/bin/env bash
# fhirpathpy: a day later, 23:30 in New York has lost its zone and stands on another date; -7 mod 3 is 2.
#
# Versions: fhirpathpy 2.2.4, its R4 model; fhirpath.js 5.2.2 beside it (Node).
# Expected (FHIRPath 2.0.0): a DateTime with a zone plus a day is an instant still; two elements that tell one
#   instant in two zones are equal (equals: normalised to one time zone before they are compared), as the same two
#   literals are; `mod` goes with `div`, which cuts towards zero: (a div b) * b + a mod b = a.
# Seen: @2026-01-31T23:30:00-05:00 + 1 day is 2026-02-02T04:30:00, without any zone: another day, and no instant any
#   more. effective = issued is false, though each equals the other as a literal. -7 div 3 is -2, -7 mod 3 is 2.
#   10 'mg' > 1 'g' raises TypeError, while 1 'g' = 1000 'mg' is true. fhirpath.js has a zone (-00:00), true, -1, false.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check fhirpathpy==2.2.4
timeout 300 npm install --silent --no-fund --no-audit --prefix n fhirpath@5.2.2 >/dev/null 2>&1
cat >asked.json <<'JSON'
["@2026-01-31T23:30:00-05:00 + 1 day",
 "@2026-01-31T23:30:00-05:00 = @2026-02-01T04:30:00Z",
 "Observation.effective = Observation.issued",
 "Observation.effective = @2026-02-01T04:30:00Z",
 "-7 div 3", "-7 mod 3", "1 'g' = 1000 'mg'", "10 'mg' > 1 'g'"]
JSON
cat >observation.json <<'JSON'
{"resourceType": "Observation", "status": "final", "code": {"text": "x"},
 "effectiveDateTime": "2026-01-31T23:30:00-05:00", "issued": "2026-02-01T04:30:00Z"}
JSON
cat >asks.cjs <<'JS'
const fs = require("fs"), fhirpath = require("./n/node_modules/fhirpath")
const r4 = require("./n/node_modules/fhirpath/fhir-context/r4")
const observation = JSON.parse(fs.readFileSync("observation.json"))
const answers = JSON.parse(fs.readFileSync("asked.json")).map((one) => {
  try { return fhirpath.evaluate(observation, one, null, r4).map(String).join() } catch (error) { return error.name }
})
fs.writeFileSync("js.json", JSON.stringify(answers))
JS
timeout 60 node asks.cjs
timeout 60 v/bin/python - <<'PY'
import json

from fhirpathpy import evaluate
from fhirpathpy.models import models

observation, asked = (json.load(open(name)) for name in ("observation.json", "asked.json"))
seen = []
for one, other in zip(asked, json.load(open("js.json")), strict=True):
    try:
        answer = evaluate(observation, one, model=models["r4"])
    except TypeError as error:
        answer = type(error).__name__
    seen.append(answer)
    print(one, "| fhirpathpy:", answer, "| fhirpath.js:", other)
assert seen == [["2026-02-02T04:30:00"], [True], [False], [True], [-2], [2], [True], "TypeError"]
PY
