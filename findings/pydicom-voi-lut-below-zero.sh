#!/usr/bin/env bash
# A CT shown through a VOI LUT that begins below zero is black in pydicom when the file is in Implicit VR.
#
# Versions: pydicom 3.0.2, dcmtk 3.6.7-9~deb12u4 (Debian 12), numpy 2.4.6, pillow 13.0.0.
# Expected: unsigned pixels with rescale intercept -1024 give values below zero; the first value that the VOI LUT maps
#   is then signed (PS3.3 section C.11.2.1.1), whichever transfer syntax carries it. dcmtk shows 256 greys of both.
# Seen: pydicom tells the sign of (0028,3002), "US or SS", by Pixel Representation alone: -128 is read as 65408 and
#   apply_voi_lut maps every pixel to the first entry. The same object in Explicit VR, where SS is written, is right.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 pillow==13.0.0
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
timeout 60 v/bin/python - <<'PY'
import subprocess
import warnings

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

warnings.filterwarnings("ignore", "Applying a VOI LUT on a float")


def written(name, syntax):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.PatientID, made.PatientName, made.Modality = "P1", "Test^Case", "CT"
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 16, 16, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    table = Dataset()
    table.add_new(0x00283002, "SS", [256, -128, 8])  # LUT Descriptor
    table.add_new(0x00283006, "OW", np.arange(256, dtype="<u2").tobytes())  # LUT Data
    made.VOILUTSequence = [table]
    made.PixelData = np.arange(1024 - 128, 1024 + 128, dtype="<u2").tobytes()
    made.save_as(name, enforce_file_format=True)
    return name


greys = {}
for kind, syntax in (("explicit", ExplicitVRLittleEndian), ("implicit", ImplicitVRLittleEndian)):
    name = written(f"{kind}.dcm", syntax)
    read = dcmread(name)
    shown = apply_voi_lut(apply_modality_lut(read.pixel_array, read), read)
    subprocess.run(["dcm2pnm", "+Wl", "1", "+op", name, f"{kind}.pgm"], check=True)
    drawn = np.asarray(Image.open(f"{kind}.pgm"))
    greys[kind] = len(np.unique(shown)), len(np.unique(drawn))
    first = read.VOILUTSequence[0].LUTDescriptor[1]
    print(kind, "| first value, pydicom:", first, "| greys, pydicom and dcmtk:", *greys[kind])
assert greys == {"explicit": (256, 256), "implicit": (1, 256)}
PY
