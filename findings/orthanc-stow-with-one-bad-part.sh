#!/usr/bin/env bash
# One bad file in a STOW-RS request: Orthanc answers 400, has stored the others, and names no failed one.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1, orthanc-dicomweb 1.7+dfsg-6+b2 (Debian 12), dicomweb-client 0.61.2,
#   pydicom 3.0.2, numpy 2.4.6.
# Expected: some stored and some not is 202 with the failed ones in the Failed SOP Sequence; 400 is a bad request, of
#   which nothing was stored (PS3.18 section 10.5.3).
# Seen: two good instances and one that lacks its SOP Instance UID, in one request, give 400. Both good ones are in the
#   archive and in the answer's Referenced SOP Sequence; the Failed SOP Sequence is empty. dicomweb-client raises
#   HTTPError and drops the answer, so that a sender is told that nothing arrived.
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check dicomweb-client==0.61.2 pydicom==3.0.2 numpy==2.4.6
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
read -r http dicom <<<"$(python3 -c '
import socket
held = [socket.socket() for _ in range(2)]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))')"
cat >orthanc.json <<JSON
{"StorageDirectory": "$work/db", "IndexDirectory": "$work/db", "HttpPort": $http, "DicomPort": $dicom,
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomServerEnabled": false,
 "Plugins": ["$(ls "$work"/root/usr/lib/orthanc/libOrthancDicomWeb.so.*)"]}
JSON
timeout 120 Orthanc orthanc.json >orthanc.log 2>&1 &
server=$!
timeout 60 v/bin/python - "http://127.0.0.1:$http" <<'PY'
import io
import json
import sys
import time
import urllib.error
import urllib.request

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

base = sys.argv[1]
study, series = generate_uid(), generate_uid()


def instance(number):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.PatientID, made.PatientName, made.Modality = "P1", "Test^Case", "CT"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240131", "093000", "1", "A1"
    made.SeriesNumber, made.InstanceNumber = 1, number
    return made


def held():
    with urllib.request.urlopen(base + "/instances", timeout=20) as answer:
        return len(json.loads(answer.read()))


for _ in range(100):
    try:
        held()
        break
    except urllib.error.URLError:
        time.sleep(0.1)
sound = [instance(1), instance(2)]
broken = instance(3)
broken.file_meta.MediaStorageSOPClassUID, broken.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
del broken.SOPInstanceUID
parts = []
for one in [sound[0], broken, sound[1]]:
    file = io.BytesIO()
    one.save_as(file)
    parts.append(b"--parts\r\nContent-Type: application/dicom\r\n\r\n" + file.getvalue() + b"\r\n")
answer = requests.post(
    f"{base}/dicom-web/studies",
    b"".join(parts) + b"--parts--\r\n",
    headers={
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=parts',
        "Accept": "application/dicom+json",
    },
    timeout=20,
)
told = answer.json()
referenced = len(told["00081199"].get("Value", []))
failed = len(told.get("00081198", {}).get("Value", []))
print("status", answer.status_code, "| told as stored", referenced, "| told as failed", failed, "| held", held())
assert (answer.status_code, referenced, failed, held()) == (400, 2, 0, 2)
try:
    DICOMwebClient(f"{base}/dicom-web").store_instances([instance(4), broken, instance(5)])
    raised = False
except requests.HTTPError as why:
    raised = True
    print("dicomweb-client:", str(why)[:40], "| held", held())
assert raised and held() == 4, held()
PY
