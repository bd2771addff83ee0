#!/usr/bin/env bash
# PET that is decay corrected to the administration gets the SUV factor of the start of the scan: half as much again.
#
# Versions: @cornerstonejs/calculate-suv 1.1.0 (npm).
# Expected: Decay Correction ADMIN says that the activities are those at the time of administration (PS3.3 section
#   C.8.9.1, PET Series), so the dose that they are divided by is the one administered: weight / dose, 0.000189 for
#   70 kg and 370 MBq. With START it is the dose left at the start: an hour of F-18 (half-life 6586.2 s) makes it
#   0.000276. With NONE each frame has decayed by a time of its own. The function takes the attribute, and its types
#   name 'ADMIN' beside 'START'.
# Seen: ADMIN, START and NONE all give 0.000276, without a word: an SUV of 2.0 in a file with ADMIN is told as 2.9.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
timeout 300 npm install --silent --no-audit --no-fund --prefix "$work" @cornerstonejs/calculate-suv@1.1.0 >/dev/null
cat >asks.cjs <<'JS'
const { calculateSUVScalingFactors } = require("@cornerstonejs/calculate-suv");
console.warn = () => {}; // it tells that the height is not given, which only the factors of lean mass and surface need
const scan = {
  CorrectedImage: ["ATTN", "DECY"], Units: "BQML", PatientWeight: 70,
  RadionuclideTotalDose: 370e6, RadionuclideHalfLife: 6586.2, RadiopharmaceuticalStartTime: "093000",
  SeriesDate: "20240131", SeriesTime: "103000", AcquisitionDate: "20240131", AcquisitionTime: "103000",
};
const administered = 70000 / 370e6;
const atStart = administered / 0.5 ** (3600 / 6586.2);
console.log("by the standard: ADMIN", administered, "START", atStart);
let same = true;
for (const DecayCorrection of ["START", "ADMIN", "NONE"]) {
  const [{ suvbw }] = calculateSUVScalingFactors([{ ...scan, DecayCorrection }]);
  console.log(DecayCorrection.padEnd(5), suvbw);
  same = same && Math.abs(suvbw / atStart - 1) < 1e-9;
}
process.exit(same ? 0 : 1);
JS
timeout 30 node asks.cjs
