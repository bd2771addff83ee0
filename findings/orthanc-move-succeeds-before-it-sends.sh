#!/usr/bin/env bash
# C-MOVE answered "Success, 20 of 20 completed" while the destination has received nothing.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1 (Debian 12), pynetdicom 3.0.4, pydicom 3.0.2.
# Expected: with SynchronousCMove = false the answer may come early, but then as Pending or without counts: PS3.4
#   section C.4.2.1 defines Number of Completed Sub-operations as C-STORE sub-operations that were completed.
# Seen: the final response says 0x0000 and Completed 20, Failed 0 before the first instances have arrived; all
#   arrive later. The counts are those of the plan.
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 pynetdicom==3.0.4
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
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "SynchronousCMove": false, "DicomCheckModalityHost": true,
 "DicomModalities": {"DEST": ["DEST", "127.0.0.1", $peer]},
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
timeout 90 v/bin/python - "http://127.0.0.1:$http" "$dicom" "$peer" <<'PY'
import sys, time

from made import instance, store, wait_for
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MOVE

base, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
wait_for(base)
films = [instance() for _ in range(20)]
for film in films:
    film.StudyInstanceUID, film.SeriesInstanceUID = films[0].StudyInstanceUID, films[0].SeriesInstanceUID
store(base, *films)
arrived = []


def receive(event):
    time.sleep(0.1)
    arrived.append(event.request.AffectedSOPInstanceUID)
    return 0x0000


receiver = AE("DEST")
receiver.add_supported_context(CTImageStorage)
listening = receiver.start_server(("127.0.0.1", own), block=False, evt_handlers=[(evt.EVT_C_STORE, receive)])
try:
    mover = AE("DEST")
    mover.add_requested_context(MOVE)
    association = mover.associate("127.0.0.1", port, ae_title="ORTHANC")
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", films[0].StudyInstanceUID
    last = [status for status, _ in association.send_c_move(wanted, "DEST", MOVE)][-1]
    then = len(arrived)
    association.release()
    print(
        f"status {last.Status:#06x}, completed {last.NumberOfCompletedSuboperations}, arrived by then {then}"
    )
    for _ in range(200):
        if len(arrived) == 20:
            break
        time.sleep(0.1)
    print(f"arrived later {len(arrived)}")
finally:
    listening.shutdown()
assert last.Status == 0 and last.NumberOfCompletedSuboperations == 20 and then < 20 and len(arrived) == 20
PY
