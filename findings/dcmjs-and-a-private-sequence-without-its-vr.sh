#!/usr/bin/env bash
# dcmjs cannot open a file that pydicom, dcmtk, ITK and dicom-parser open: a private sequence with VR UN and
# undefined length.
#
# Versions: dcmjs 0.52.0 and dicom-parser 1.8.21 (npm), pydicom 3.0.2, dcmtk 3.6.7-9~deb12u4 (Debian 12),
#   SimpleITK 2.5.7.
# Expected: an archive that turns Implicit VR into Explicit VR writes a private sequence that it does not know as
#   UN of undefined length, its content still Implicit VR (PS3.5 section 6.2.2). Every reader walks over it to the
#   pixels.
# Seen: four readers give the inner item and the pixels; dcmjs reads the items as Explicit VR and ends with an
#   error about the end of its input: nothing of the file is read.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
# Debian's packages are unpacked here, not installed; what they need and this machine lacks comes along.
wanted="dcmtk=3.6.7-9~deb12u4 libdcmtk17=3.6.7-9~deb12u4"
needed=$(apt-get install -s --no-install-recommends $wanted | awk '/^Inst/ {print $2}')
for name in $wanted; do
  needed=$(printf '%s\n' $needed | grep -vx "${name%%=*}" || true)
done
timeout 300 apt-get -q download $wanted $needed >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(ls -d "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH PATH="$work/root/usr/sbin:$work/root/usr/bin:$PATH" DCMDICTPATH="$work/root/usr/share/libdcmtk17/dicom.dic"
cat >made.py <<'PY'
import io, json, time, urllib.error, urllib.request

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def instance(**values):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.PatientID, made.PatientName, made.Modality = "P1", "Test^Case", "CT"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240131", "093000", "1", "A1"
    made.SeriesNumber, made.InstanceNumber = 1, 1
    for name, value in values.items():
        setattr(made, name, value)
    return made


def encoded(made):
    held = io.BytesIO()
    made.save_as(held, enforce_file_format=True)
    return held.getvalue()


def http(url, body=None, accept=None):
    request = urllib.request.Request(url, body, {"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def wait_for(base):
    for _ in range(100):
        try:
            return http(base + "/system")
        except urllib.error.URLError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


def store(base, *made):
    return [json.loads(http(base + "/instances", encoded(one)))["ID"] for one in made]
PY
timeout 200 npm install --silent --no-audit --no-fund --prefix "$work" dcmjs@0.52.0 dicom-parser@1.8.21 >/dev/null

v/bin/python - <<'PY'
import struct

from made import encoded, instance

one = instance(
    Rows=2,
    Columns=2,
    SamplesPerPixel=1,
    PhotometricInterpretation="MONOCHROME2",
    BitsAllocated=16,
    BitsStored=16,
    HighBit=15,
    PixelRepresentation=0,
    PixelData=b"\1\0\2\0\3\0\4\0",
)
one.private_block(0x0019, "ACME", create=True)
plain = encoded(one)
item = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
sequence = (
    struct.pack("<HH2sHI", 0x0019, 0x1001, b"UN", 0, 0xFFFFFFFF)
    + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    + item
    + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
)
creator = plain.index(struct.pack("<HH2sH", 0x0019, 0x0010, b"LO", 4)) + 12
with open("one.dcm", "wb") as file:
    file.write(plain[:creator] + sequence + plain[creator:])
PY
cat >read.cjs <<'JS'
const fs = require("fs");
const bytes = fs.readFileSync("one.dcm");
const { elements } = require("dicom-parser").parseDicom(new Uint8Array(bytes));
console.log("dicom-parser:", elements.x00191001.items[0].dataSet.string("x00080100"), elements.x7fe00010.length, "bytes of pixels");
let failed = false;
try {
  require("dcmjs").data.DicomMessage.readFile(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
} catch (error) {
  failed = true;
  console.log("dcmjs:", String(error));
}
process.exit(failed ? 0 : 1);
JS
timeout 60 v/bin/python - <<'PY'
import subprocess

import pydicom, SimpleITK

read = pydicom.dcmread("one.dcm")
print(
    "pydicom:",
    read[0x00191001].VR,
    read[0x00191001].value[0].CodeValue,
    len(read.PixelData),
    "bytes of pixels",
)
print("SimpleITK:", SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("one.dcm")).ravel().tolist())
dump = subprocess.run(
    ["dcmdump", "+P", "0008,0100", "one.dcm"], capture_output=True, text=True, timeout=20, check=True
).stdout
print("dcmdump:", dump.strip())
assert read[0x00191001].value[0].CodeValue == "CODE" and "[CODE]" in dump
PY
timeout 30 node read.cjs
