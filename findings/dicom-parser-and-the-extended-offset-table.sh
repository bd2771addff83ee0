#!/usr/bin/env bash
# One Extended Offset Table, and the browser's readers lose the image: dicom-parser throws, daikon has no pixels.
#
# Versions: dicom-parser 1.8.21, daikon 1.2.46, dcmjs 0.52.0 (npm); pydicom 3.0.2, numpy 2.4.6.
# Expected: the Extended Offset Table (7FE0,0001) has VR OV, whose length takes four bytes behind two reserved ones
#   (PS3.5 section 7.1.2), as those of SV and UV do; a reader that knows no OV may skip it by its length.
# Seen: dicom-parser (under cornerstone and OHIF) and daikon read a length of two bytes for OV, SV and UV, find 0 there
#   and go on in the middle of the length: dicom-parser ends with "buffer overrun", daikon with tags that are not in
#   the file and no pixel data. dcmjs reads the file, taking OV for UN. The same frames with a basic offset table are
#   read by all three, so an archive that writes extended tables when it compresses makes its images unreadable.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
timeout 300 npm install --silent --no-audit --no-fund --prefix "$work" dicom-parser@1.8.21 daikon@1.2.46 dcmjs@0.52.0 >/dev/null
timeout 60 v/bin/python - <<'PY'
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate_extended, generate_frames
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid


def made():
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
    one.PatientID, one.PatientName, one.Modality = "P1", "Test^Case", "CT"
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = 16, 16, 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = np.arange(256, dtype="<u2").tobytes()
    return one


rle = made()
rle.compress(RLELossless)
rle.save_as("basic.dcm", enforce_file_format=True)
frames = list(generate_frames(rle.PixelData))
rle.PixelData, rle.ExtendedOffsetTable, rle.ExtendedOffsetTableLengths = encapsulate_extended(frames)
rle.save_as("extended.dcm", enforce_file_format=True)
numbered = made()
numbered.add_new(0x00720082, "SV", [-5])  # Selector SV Value
numbered.save_as("signed.dcm", enforce_file_format=True)
for name in ("basic", "extended", "signed"):
    assert (dcmread(f"{name}.dcm").pixel_array.ravel() == np.arange(256)).all()
PY
cat >read.cjs <<'JS'
const fs = require("fs");
const parser = require("dicom-parser"), daikon = require("daikon"), dcmjs = require("dcmjs");
dcmjs.log.setLevel("silent");
const readers = {
  "dicom-parser": (bytes) => "x7fe00010" in parser.parseDicom(new Uint8Array(bytes)).elements,
  daikon: (bytes) => daikon.Series.parseImage(new DataView(bytes)).hasPixelData(),
  dcmjs: (bytes) => "7FE00010" in dcmjs.data.DicomMessage.readFile(bytes).dict,
};
const seen = [];
for (const name of ["basic", "extended", "signed"])
  for (const [reader, read] of Object.entries(readers)) {
    const file = fs.readFileSync(`${name}.dcm`);
    let has;
    try {
      has = read(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
    } catch (why) {
      has = String(why.exception || why.message || why).slice(0, 80);
    }
    console.log(name.padEnd(9), reader.padEnd(13), has === true ? "has the pixels" : has || "has no pixels");
    seen.push(has === true);
  }
process.exit(JSON.stringify(seen) === "[true,true,true,false,false,true,false,false,true]" ? 0 : 1);
JS
timeout 30 node read.cjs
