#!/usr/bin/env bash
# A segmentation as a label map is taken by Orthanc over HTTP and refused over DICOM.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1 (Debian 12), highdicom 0.28.2, pydicom 3.0.2, pynetdicom 3.0.4.
# Expected: what one door of an archive stores, the other does: Label Map Segmentation Storage
#   (1.2.840.10008.5.1.4.1.1.66.7, PS3.4 table B.5-1) is an IOD like Segmentation Storage (66.4).
# Seen: one set of labels, written twice by highdicom. As BINARY both doors take it, six frames. As LABELMAP (three
#   frames, each label a value) POST /instances says Success; the association for C-STORE has no accepted context, for
#   Orthanc accepts the classes of a list of its own over DICOM. A sender that falls back to nothing loses it there.
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 pynetdicom==3.0.4 numpy==2.4.6
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
cat >orthanc.json <<JSON
{"StorageDirectory": "$work/db", "IndexDirectory": "$work/db", "HttpPort": $http, "DicomPort": $dicom,
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomCheckModalityHost": true,
 "DicomModalities": {"ASKS": ["ASKS", "127.0.0.1", 104]}}
JSON
timeout 120 Orthanc orthanc.json >orthanc.log 2>&1 &
server=$!
timeout 60 v/bin/python - "http://127.0.0.1:$http" "$dicom" <<'PY'
import io
import json
import sys
import time
import urllib.error
import urllib.request

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

base, port = sys.argv[1], int(sys.argv[2])
study, series, space = generate_uid(), generate_uid(), generate_uid()


def http(path, body=None):
    with urllib.request.urlopen(base + path, body, timeout=20) as answer:
        return json.loads(answer.read())


def plane(number):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, space
    made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = "P1", "Test^Case", "", ""
    made.Modality, made.StudyDate, made.StudyTime, made.StudyID = "CT", "20240131", "093000", "1"
    made.AccessionNumber, made.ReferringPhysicianName, made.PositionReferenceIndicator = "A1", "", ""
    made.SeriesNumber, made.InstanceNumber = 1, number + 1
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.Rows, made.Columns = [2, 2], 3, 16, 16
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = np.full((16, 16), 1000, "<u2").tobytes()
    return made


planes = [plane(number) for number in range(3)]
labels = np.zeros((3, 16, 16), np.uint8)
labels[:, 2:6, 2:6], labels[:, 8:12, 8:12] = 1, 2
segments = [
    highdicom.seg.SegmentDescription(number, word.meaning, codes.SCT.Organ, word, "MANUAL")
    for number, word in ((1, codes.SCT.Liver), (2, codes.SCT.Spleen))
]
for _ in range(100):
    try:
        http("/system")
        break
    except urllib.error.URLError:
        time.sleep(0.1)
seen = {}
for kind in ("BINARY", "LABELMAP"):
    made = highdicom.seg.Segmentation(
        planes, labels, kind, segments, generate_uid(), 2, generate_uid(), 1, "X", "Y", "1", "S1"
    )
    user = AE("ASKS")
    user.add_requested_context(made.SOPClassUID, made.file_meta.TransferSyntaxUID)
    association = user.associate("127.0.0.1", port)
    by_dicom = bool(association.accepted_contexts) and association.send_c_store(made).Status == 0
    if association.is_established:
        association.release()
    file = io.BytesIO()
    made.save_as(file)
    stored = http("/instances", file.getvalue())
    frames = len(http(f"/instances/{stored['ID']}/frames"))
    seen[kind] = by_dicom, stored["Status"], frames
    print(kind, made.SOPClassUID, "| C-STORE:", by_dicom, "| HTTP:", stored["Status"], "| frames:", frames)
assert seen == {"BINARY": (True, "AlreadyStored", 6), "LABELMAP": (False, "Success", 3)}
PY
