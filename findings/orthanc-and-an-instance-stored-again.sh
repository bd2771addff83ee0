#!/usr/bin/env bash
# A corrected instance sent again: Orthanc says success and keeps the old; told to overwrite, it loses the study's notes.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1 (Debian 12), pynetdicom 3.0.4, pydicom 3.0.2.
# Expected: C-STORE of an instance whose UID is held and whose content is not is stored, or answered with a warning
#   (B000H, B006H and B007H, PS3.4 table B.2-1); what a site wrote on a study is lost when the study is deleted.
# Seen: by default the status is 0x0000, the archive holds the former name and /changes has no line. With
#   OverwriteInstances the new one is held, but as the only instance of its study it was deleted first, and with it
#   the study: its own metadata and attachment are gone, and /changes tells a new study, without the deletion.
# (Orthanc's DICOM port cannot be bound to loopback; it answers 127.0.0.1 alone here, by DicomCheckModalityHost.)
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2
# Debian's packages are unpacked here, not installed; what they need and this machine lacks comes along.
wanted="orthanc=1.10.1+dfsg-2+deb12u1 libdcmtk17=3.6.7-9~deb12u4"
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
cat >makes.py <<'PY'
import json
import sys
import time
import urllib.error
import urllib.request

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

base, port, overwrite = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def http(path, body=None, method=None):
    asked = urllib.request.Request(base + path, body, method=method)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.read()


def rows(path):
    return json.loads(http(path))


def store(name):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, "1.2.826.0.1.3"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.826.0.1.1", "1.2.826.0.1.2"
    made.PatientID, made.PatientName, made.Modality = "P1", name, "CT"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240131", "093000", "1", "A1"
    made.SeriesNumber, made.InstanceNumber = 1, 1
    user = AE("ASKS")
    user.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = user.associate("127.0.0.1", port)
    status = association.send_c_store(made).Status
    association.release()
    return status


for _ in range(100):
    try:
        rows("/system")
        break
    except urllib.error.URLError:
        time.sleep(0.1)
first = store("Old^Name")
study = rows("/studies")[0]
http(f"/studies/{study}/metadata/1024", b"read by A", "PUT")
http(f"/studies/{study}/attachments/1025", b"letter", "PUT")
since = rows("/changes?last")["Last"]
second = store("New^Name")
held = http(f"/instances/{rows('/instances')[0]}/content/0010-0010").decode().strip()
notes = rows(f"/studies/{study}/metadata"), rows(f"/studies/{study}/attachments")
mine = "1024" in notes[0], "1025" in notes[1]
changes = sorted({one["ChangeType"] for one in rows(f"/changes?since={since}")["Changes"]})
print(f"overwrite {overwrite}: status {first:#06x}, {second:#06x} | held {held} | metadata, attachment: {mine} | {changes}")
wanted = {
    "false": ("Old^Name", (True, True), []),
    "true": ("New^Name", (False, False), ["NewInstance", "NewPatient", "NewSeries", "NewStudy"]),
}[overwrite]
assert first == second == 0 and (held, mine, changes) == wanted
PY
for overwrite in false true; do
  cat >orthanc.json <<JSON
{"StorageDirectory": "$work/db-$overwrite", "IndexDirectory": "$work/db-$overwrite", "HttpPort": $http, "DicomPort": $dicom,
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomCheckModalityHost": true,
 "OverwriteInstances": $overwrite, "DicomModalities": {"ASKS": ["ASKS", "127.0.0.1", 104]}}
JSON
  timeout 120 Orthanc orthanc.json >orthanc.log 2>&1 &
  server=$!
  timeout 60 v/bin/python makes.py "http://127.0.0.1:$http" "$dicom" "$overwrite"
  kill "$server" && wait "$server" || true
  server=
done
