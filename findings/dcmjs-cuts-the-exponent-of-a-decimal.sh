#!/usr/bin/env bash
# dcmjs makes a long number fit a DS by cutting its text: a tilt of -3.3e-08 mm is written as -3.3 mm.
#
# Versions: dcmjs 0.52.0 (npm), read again by pydicom 3.0.2.
# Expected: a JavaScript number whose shortest text is over 16 bytes is rounded to what fits (-3.33333333e-08), or
#   refused.
# Seen: "-3.3333333333333335e-8" is cut after 16 characters, in front of the exponent: -3.3333333333333, eight
#   orders of magnitude off; the console has a line "Truncating value". Such values stand in real Image Position
#   and Image Orientation (Patient) after any arithmetic on them.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2
timeout 200 npm install --silent --no-audit --no-fund --prefix "$work" dcmjs@0.52.0 >/dev/null

cat >write.cjs <<'JS'
const fs = require("fs");
const { DicomDict, DicomMetaDictionary } = require("dcmjs").data;
const tilt = -1e-7 / 3;
const file = new DicomDict({ "00020010": { vr: "UI", Value: ["1.2.840.10008.1.2.1"] } });
file.dict = DicomMetaDictionary.denaturalizeDataset({
  SOPClassUID: "1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID: "1.2.3", _vrMap: {}, _meta: {},
  ImagePositionPatient: [1.5, tilt, 1 / 3],
});
fs.writeFileSync("one.dcm", Buffer.from(file.write()));
console.log("given  ", [1.5, tilt, 1 / 3]);
JS
timeout 30 node write.cjs
timeout 30 v/bin/python - <<'PY'
import pydicom

written = [str(value) for value in pydicom.dcmread("one.dcm").ImagePositionPatient]
print("written", written)
assert abs(float(written[1]) + 3.3333333) < 1e-6 and abs(float(written[2]) - 1 / 3) < 1e-9, written
PY
