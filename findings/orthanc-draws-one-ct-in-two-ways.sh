#!/usr/bin/env bash
# One CT, one Orthanc, two addresses called "rendered": DICOMweb ignores the file's window, the REST interface
# applies it.
#
# Versions: orthanc 1.10.1+dfsg-2+deb12u1, orthanc-dicomweb 1.7+dfsg-6+b2, dcmtk 3.6.7-9~deb12u4 (Debian 12),
#   pydicom 3.0.2, pillow 13.0.0.
# Expected: /dicom-web/.../rendered shows the window that the file names where the client asks for none (its
#   parameter `window` is PS3.18 section 8.3.5.1.4), and equals /instances/ID/rendered of the same server and
#   dcm2pnm +Wi 1.
# Seen: DICOMweb stretches the stored values from least to greatest (soft tissue 40 HU is grey 24, bone and metal
#   decide the rest); REST and dcmtk give 127. With ?window=40,400,linear DICOMweb gives 128, so it can.
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
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 pillow==13.0.0
# Debian's packages are unpacked here, not installed; what they need and this machine lacks comes along.
wanted="orthanc=1.10.1+dfsg-2+deb12u1 orthanc-dicomweb=1.7+dfsg-6+b2 libdcmtk17=3.6.7-9~deb12u4 dcmtk=3.6.7-9~deb12u4"
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
import io, subprocess, sys

import numpy
from PIL import Image
from made import encoded, http, instance, store, wait_for

base = sys.argv[1]
wait_for(base)
pixels = numpy.zeros((16, 16), "<u2")
for column, hounsfield in enumerate((-160, 40, 240, 1976)):
    pixels[:, 4 * column : 4 * column + 4] = hounsfield + 1024
one = instance(
    Rows=16,
    Columns=16,
    SamplesPerPixel=1,
    PhotometricInterpretation="MONOCHROME2",
    BitsAllocated=16,
    BitsStored=16,
    HighBit=15,
    PixelRepresentation=0,
    RescaleSlope="1",
    RescaleIntercept="-1024",
    WindowCenter="40",
    WindowWidth="400",
    PixelData=pixels.tobytes(),
)
(number,) = store(base, one)
with open("one.dcm", "wb") as file:
    file.write(encoded(one))
subprocess.run(["dcm2pnm", "+Wi", "1", "one.dcm", "one.pgm"], check=True, timeout=20)
address = f"{base}/dicom-web/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/rendered"


def grey(image):
    return [int(value) for value in numpy.asarray(Image.open(image))[0, ::4]]


drawn = {
    "DICOMweb": grey(io.BytesIO(http(address, accept="image/png"))),
    "DICOMweb, window asked": grey(io.BytesIO(http(address + "?window=40,400,linear", accept="image/png"))),
    "REST": grey(io.BytesIO(http(f"{base}/instances/{number}/rendered", accept="image/png"))),
    "dcm2pnm": grey("one.pgm"),
}
for reader, values in drawn.items():
    print(f"{reader}: -160, 40, 240, 1976 HU -> {values}")
assert drawn["REST"] == drawn["dcm2pnm"] == [0, 127, 255, 255]
assert drawn["DICOMweb, window asked"][1] == 128 and drawn["DICOMweb"][1] < 40 and drawn["DICOMweb"][2] < 80
PY
