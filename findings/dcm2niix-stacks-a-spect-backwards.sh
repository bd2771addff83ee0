#!/usr/bin/env bash
# A SPECT volume whose slices are stacked against the normal is turned over by dcm2niix and placed right by SimpleITK.
#
# Versions: dcm2niix 1.0.20260724, SimpleITK 2.5.7, nibabel 5.4.2, pydicom 3.0.2, numpy 2.4.6.
# Expected: the sign of Spacing Between Slices of a tomographic NM image tells the direction in which its slices are
#   stacked from the position of the first (PS3.3 section C.8.4.15, NM Reconstruction Module): with -4 mm the second
#   slice lies 4 mm against the normal of the plane.
# Seen: SimpleITK has slices 1 to 4 at z = 5, 1, -3, -7. dcm2niix has them at 5, 9, 13, 17, as it has them with +4 mm,
#   where both agree: the volume is turned over, head for feet. The warning that it prints (slice direction unknown)
#   is the same for both files.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check SimpleITK==2.5.7 dcm2niix==1.0.20260724 \
  nibabel==5.4.2 pydicom==3.0.2 numpy==2.4.6
timeout 100 v/bin/python - <<'PY'
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid


def write(folder, spacing):
    Path(folder).mkdir()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = NuclearMedicineImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    made.PatientID, made.PatientName, made.Modality, made.Manufacturer = "P1", "Test^Case", "NM", "X"
    made.ImageType, made.StudyDate, made.StudyTime = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], "20240131", "0930"
    made.SeriesNumber, made.InstanceNumber = 1, 1
    made.NumberOfFrames, made.NumberOfSlices, made.SliceVector = 4, 4, [1, 2, 3, 4]
    made.FrameIncrementPointer, made.SpacingBetweenSlices, made.SliceThickness = 0x00540080, spacing, 4
    made.PixelSpacing, made.Rows, made.Columns = [2, 2], 16, 16
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [-10, -20, 5], [1, 0, 0, 0, 1, 0]
    made.DetectorInformationSequence = [detector]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelData = np.repeat(np.arange(1, 5, dtype="<u2"), 256).tobytes()  # slice k has value k
    made.save_as(f"{folder}/one.dcm", enforce_file_format=True)


seen = {}
for folder, spacing in (("along", 4), ("against", -4)):
    write(folder, spacing)
    volume = SimpleITK.ReadImage(f"{folder}/one.dcm")
    values = SimpleITK.GetArrayFromImage(volume)[:, 0, 0]
    by_itk = {int(value): volume.TransformIndexToPhysicalPoint((0, 0, k))[2] for k, value in enumerate(values)}
    command = ["v/bin/dcm2niix", "-z", "n", "-b", "n", "-f", "volume", "-o", folder, folder]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    made = nibabel.load(f"{folder}/volume.nii")
    values = made.get_fdata()[0, 0]
    by_dcm2niix = {int(value): float((made.affine @ [0, 0, k, 1])[2]) for k, value in enumerate(values)}
    by_dcm2niix = dict(sorted(by_dcm2niix.items()))
    print(f"{folder} ({spacing} mm): z of slices 1 to 4")
    print("   SimpleITK", list(by_itk.values()), "| dcm2niix", list(by_dcm2niix.values()))
    print("  ", *(line for line in said.splitlines() if "slice direction" in line))
    seen[folder] = list(by_itk.values()), list(by_dcm2niix.values())
up, down = [5.0, 9.0, 13.0, 17.0], [5.0, 1.0, -3.0, -7.0]
assert seen == {"along": (up, up), "against": (down, up)}, seen
PY
