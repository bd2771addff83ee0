#!/usr/bin/env bash
# WADO-RS metadata of Orthanc: elements of VR SV and UV are not there, and a UT that holds a backslash becomes two
# values.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1, orthanc-dicomweb 1.7+dfsg-6+b2 with libdcmtk17 3.6.7 (Debian 12),
#   pydicom 3.0.2.
# Expected: {"vr": "UV", "Value": [...]} as PS3.18 table F.2.3-1 has it (in the standard since 2019; dcmtk 3.6.7
#   knows them), and one value for UT, in which PS3.5 section 6.2 counts a backslash as text.
# Seen: SV and UV are left out of the metadata without a word, though the stored file has them; UT "a\b" is ["a",
#   "b"].
set -euo pipefail
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2
# Debian's packages are unpacked here, not installed; what they need and this machine lacks comes along.
wanted="orthanc=1.10.1+dfsg-2+deb12u1 orthanc-dicomweb=1.7+dfsg-6+b2 libdcmtk17=3.6.7-9~deb12u4"
needed=$(apt-get install -s --no-install-recommends $wanted | awk '/^Inst/ {print $2}')
for name in $wanted; do
  needed=$(printf '%s\n' $needed | grep -vx "${name%%=*}" || true)
done
timeout 300 apt-get -q download $wanted $needed >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(ls -d "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH PATH="$work/root/usr/sbin:$work/root/usr/bin:$PATH" DCMDICTPATH="$work/root/usr/share/libdcmtk17/dicom.dic"
read -r http dicom peer <<<"$(python3 -c '
import socket
held = [socket.socket() for _ in range(3)]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))')"
cat >orthanc.json <<JSON
{"StorageDirectory": "$work/db", "IndexDirectory": "$work/db", "HttpPort": $http, "DicomPort": $dicom,
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomServerEnabled": false,
 "Plugins": ["$(ls "$work"/root/usr/lib/orthanc/libOrthancDicomWeb.so.*)"]}
JSON
timeout 120 Orthanc orthanc.json >orthanc.log 2>&1 &
server=$!
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
timeout 60 v/bin/python - "http://127.0.0.1:$http" <<'PY'
import io, json, sys

import pydicom
from made import encoded, http, instance, store, wait_for

base = sys.argv[1]
wait_for(base)
one = instance()
one.add_new(0x00720082, "SV", -5)  # Selector SV Value
one.add_new(0x00720083, "UV", 7)  # Selector UV Value
one.add_new(0x00720078, "UL", 7)  # Selector UL Value
one.add_new(0x0040A160, "UT", "left\\right")  # Text Value
(number,) = store(base, one)
stored = pydicom.dcmread(io.BytesIO(http(f"{base}/instances/{number}/file")))
metadata = json.loads(http(f"{base}/dicom-web/studies/{one.StudyInstanceUID}/metadata"))[0]
for tag in ("00720078", "00720082", "00720083", "0040A160"):
    print(tag, "stored:", repr(stored[tag].value), "| metadata:", metadata.get(tag))
assert (stored["00720082"].value, stored["00720083"].value, stored["0040A160"].value) == (
    -5,
    7,
    "left\\right",
)
assert metadata["00720078"]["Value"] == [7] and "00720082" not in metadata and "00720083" not in metadata
assert metadata["0040A160"]["Value"] == ["left", "right"]
PY
