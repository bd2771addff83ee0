#!/usr/bin/env bash
# dicomweb-client finds nobody by name in an Orthanc that holds the name: one encodes the query, the other does
# not decode it.
#
# Versions: dicomweb-client 0.61.2, orthanc-dicomweb 1.7+dfsg-6+b2 on orthanc 1.10.1+dfsg-2+deb12u1 (Debian 12).
# Expected: PatientName=Doe* and PatientName=Doe%2A are the same query (RFC 3986 section 2.1), so that both find
#   it.
# Seen: the client always sends %2A, %5E and +, the plugin compares these as they stand: 0 rows, status 204 or
#   200, no error. The bare spelling finds the study; a Patient ID with a blank or a slash cannot be asked by the
#   client at all. Dates work: nothing in them is encoded.
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 dicomweb-client==0.61.2
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

from dicomweb_client import DICOMwebClient
from made import http, instance, store, wait_for

base = sys.argv[1]
wait_for(base)
store(
    base, instance(PatientID="A 1", PatientName="Doe^John"), instance(PatientID="D/1", PatientName="Roe^Ann")
)
client = DICOMwebClient(base + "/dicom-web")
found = {}
for key, value in (
    ("PatientName", "Doe*"),
    ("PatientName", "Doe^John"),
    ("PatientID", "A 1"),
    ("PatientID", "D/1"),
    ("StudyDate", "20240101-20240201"),
):
    found[value] = len(client.search_for_studies(search_filters={key: value}))
    print(f"client  {key}={value}: {found[value]}")
bare = {}
for query in (
    "PatientName=Doe*",
    "PatientName=Doe%2A",
    "PatientName=Doe^John",
    "PatientName=Doe%5EJohn",
    "PatientID=D/1",
    "PatientID=D%2F1",
):
    bare[query] = len(json.loads(http(f"{base}/dicom-web/studies?{query}") or b"[]"))
    print(f"by hand {query}: {bare[query]}")
assert list(found.values()) == [0, 0, 0, 0, 2] and list(bare.values()) == [1, 0, 1, 0, 1, 0]
PY
