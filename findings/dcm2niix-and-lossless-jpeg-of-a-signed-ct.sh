#!/usr/bin/env bash
# A signed CT compressed by dcmtk's plain lossless JPEG is off by tens of thousands in dcm2niix and right in three readers.
#
# Versions: dcm2niix 1.0.20260724, dcmtk 3.6.7-9~deb12u4 (Debian 12), SimpleITK 2.5.7, nibabel 5.4.2, pydicom 3.0.2 with
#   pylibjpeg-libjpeg 2.5.0, numpy 2.4.6.
# Expected: lossless JPEG (process 14) gives the values back by each of its seven predictors (ITU-T T.81, table H.1), whose
#   sums are taken modulo 65536.
# Seen: dcmcjpeg +el takes predictor 6 unless told otherwise. Of a smooth signed image, -1024 to 176, dcm2niix has ten of
#   256 voxels as -32712 or 16480, the others right; of a rough one four in five are off. pydicom, SimpleITK and dcmtk
#   itself give back every value. Predictor 5 is so too, and 7 of the rough image; 1 to 4 are right, and so are all
#   seven of unsigned values below 4096. Nothing is said, and the exit status is 0.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check SimpleITK==2.5.7 dcm2niix==1.0.20260724 \
  nibabel==5.4.2 pydicom==3.0.2 pylibjpeg==2.1.0 pylibjpeg-libjpeg==2.5.0 numpy==2.4.6
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
timeout 100 v/bin/python - <<'PY'
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write(name, image):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    made.PatientID, made.PatientName, made.Modality, made.Manufacturer = "P1", "Test^Case", "CT", "X"
    made.ImageType, made.StudyDate, made.StudyTime = ["ORIGINAL", "PRIMARY", "AXIAL"], "20240131", "093000"
    made.SeriesNumber, made.InstanceNumber, made.Rows, made.Columns = 1, 1, 16, 16
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.RescaleSlope, made.RescaleIntercept = [2, 2], 3, 1, 0
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelRepresentation = int(image.dtype.kind == "i")
    made.PixelData = image.tobytes()
    made.save_as(name, enforce_file_format=True)


def wrong(folder, image, options):
    Path(folder).mkdir()
    write("native.dcm", image)
    file = f"{folder}/one.dcm"
    subprocess.run(["dcmcjpeg", "+el", *options, "native.dcm", file], check=True)
    subprocess.run(["dcmdjpeg", file, "back.dcm"], check=True)
    command = ["v/bin/dcm2niix", "-z", "n", "-b", "n", "-f", "image", "-o", folder, folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)).reshape(16, 16)
    by_dcm2niix = nibabel.load(f"{folder}/image.nii").get_fdata()[:, ::-1, 0].T  # the rows of NIfTI run the other way
    for values in (dcmread(file).pixel_array, dcmread("back.dcm").pixel_array, by_itk):
        assert (values == image).all(), folder
    off = by_dcm2niix != image
    first = f", first {by_dcm2niix[off][0]:.0f} for {image[off][0]}" if off.any() else ""
    print(f"{folder:22} pydicom, dcmtk, SimpleITK right; dcm2niix off in {off.sum()} of 256{first}")
    return int(off.sum())


ramp = np.add.outer(np.arange(16), np.arange(16)) * 40 - 1024
rough = np.random.default_rng(0).integers(-1000, 1000, (16, 16))
seen = {"default": wrong("signed, no predictor", ramp.astype("<i2"), [])}
for number in range(1, 8):
    chosen = ["+sv", str(number)]
    seen[number] = (
        wrong(f"signed, smooth, {number}", ramp.astype("<i2"), chosen),
        wrong(f"signed, rough, {number}", rough.astype("<i2"), chosen),
        wrong(f"unsigned, rough, {number}", (rough + 1024).astype("<u2"), chosen),
    )
assert seen.pop("default") == seen[6][0] > 0
assert all(of[2] == 0 for of in seen.values()) and all(seen[number] == (0, 0, 0) for number in (1, 2, 3, 4))
assert seen[5][0] > 0 and all(seen[number][1] > 100 for number in (5, 6, 7)), seen
PY
