#!/usr/bin/env bash
# QIDO-RS of Orthanc drops what Latin-1 lacks from a name that it holds whole, though JSON is always UTF-8.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1, orthanc-dicomweb 1.7+dfsg-6+b2 (Debian 12), pydicom 3.0.2.
# Expected: DICOM JSON is UTF-8 (PS3.18 section F.2), so a Chinese or Japanese name comes back whole from the list
#   of studies as it does from the metadata.
# Seen: in the list 山田^太郎 is "^" and a Cyrillic name is empty or gone, with Specific Character Set ISO_IR 100 and
#   status 200; the metadata of the same study has the name. Rows are first made in the archive's DefaultEncoding,
#   whose factory value is Latin1.
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
import json, sys

from made import http, instance, store, wait_for

base = sys.argv[1]
wait_for(base)
people = (
    ("J", ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("C", "ISO_IR 192", "Wang^Dong=王^小东"),
    ("R", "ISO_IR 144", "Люков"),
    ("L", "ISO_IR 100", "Müller^Jörg"),
)
whole = {}
for number, charset, name in people:
    one = instance(PatientID=number, PatientName="x", SpecificCharacterSet=charset)
    one.PatientName = name
    store(base, one)
    row = json.loads(http(f"{base}/dicom-web/studies?PatientID={number}"))[0]
    full = json.loads(http(f"{base}/dicom-web/studies/{one.StudyInstanceUID}/metadata"))[0]
    listed, held = (answer["00100010"].get("Value") for answer in (row, full))
    print(charset, "| list:", listed, row["00080005"]["Value"], "| metadata:", held)
    assert "=".join(held[0].values()) == name, "the metadata is not whole"
    whole[number] = listed == held
assert whole == {"J": False, "C": False, "R": False, "L": True}, whole
PY
