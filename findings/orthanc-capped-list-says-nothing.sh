#!/usr/bin/env bash
# Orthanc with a limit on results: the list of studies is cut, and no page, status or header says so.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1, orthanc-dicomweb 1.7+dfsg-6+b2 (Debian 12), pydicom 3.0.2.
# Expected: LimitFindResults = 5 bounds one answer; offset reaches the rest, or a Warning header tells of it
#   (PS3.18 section 8.3.4 has 299 for "additional results can be requested").
# Seen: of 12 studies a client that pages gets 6 (one more than the limit), then an empty page, all with 200 and
#   no Warning; each of the other 6 is found when it is asked for by name.
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
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomServerEnabled": false, "LimitFindResults": 5,
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
import json, sys, urllib.request

from made import http, instance, store, wait_for

base = sys.argv[1]
wait_for(base)
numbers = [f"P{number:02}" for number in range(12)]
store(base, *(instance(PatientID=number) for number in numbers))
listed, warnings = [], []
for offset in range(0, 12, 4):
    with urllib.request.urlopen(f"{base}/dicom-web/studies?limit=4&offset={offset}", timeout=20) as page:
        rows = json.loads(page.read())
        warnings.append(page.headers.get("Warning"))
        listed += [row["00100020"]["Value"][0] for row in rows]
        print(f"offset {offset}: status {page.status}, {len(rows)} rows, Warning {warnings[-1]}")
alone = [n for n in numbers if json.loads(http(f"{base}/dicom-web/studies?PatientID={n}"))]
print(f"stored 12, listed over all pages {len(set(listed))}, found one by one {len(alone)}")
assert len(set(listed)) == 6 and len(alone) == 12 and warnings == [None] * 3
PY
