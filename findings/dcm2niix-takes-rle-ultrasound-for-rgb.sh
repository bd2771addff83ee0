#!/usr/bin/env bash
# An ultrasound in YBR_FULL and RLE comes out of dcm2niix in false colours: luminance as red, chrominance as green and blue.
#
# Versions: dcm2niix 1.0.20260724, SimpleITK 2.5.7, nibabel 5.4.2, pydicom 3.0.2, numpy 2.4.6.
# Expected: samples of YBR_FULL are converted to RGB for a file that holds RGB (PS3.3 section C.7.6.3.1.2), whichever
#   transfer syntax carries them; RLE with YBR_FULL is a common pair of ultrasound machines.
# Seen: red, green, blue and grey, once native and once in RLE. pydicom and SimpleITK give the colours back to one level
#   of both. dcm2niix does so of the native file; of the RLE file it writes the samples as they are, red as (81, 99, 213)
#   and grey as (200, 128, 128), with exit status 0 and no warning of it.
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
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, UltrasoundImageStorage, generate_uid

colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 200)], np.uint8)
image = np.repeat(np.repeat(colours[None], 4, axis=1), 16, axis=0)
to_ybr = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
ybr = np.clip(np.rint(image @ to_ybr.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def write(folder, syntax):
    Path(folder).mkdir()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.PatientID, made.PatientName, made.Modality, made.Manufacturer = "P1", "Test^Case", "US", "X"
    made.StudyDate, made.StudyTime, made.SeriesNumber, made.InstanceNumber = "20240131", "093000", 1, 1
    made.ImageType, made.Rows, made.Columns = ["ORIGINAL", "PRIMARY"], 16, 16
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "YBR_FULL", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = ybr.tobytes()
    if syntax == RLELossless:
        frame = RLELosslessEncoder.encode(
            ybr, rows=16, columns=16, samples_per_pixel=3, photometric_interpretation="YBR_FULL", bits_allocated=8,
            bits_stored=8, pixel_representation=0, number_of_frames=1, planar_configuration=0,
        )
        made.PixelData = encapsulate([frame])
    made.save_as(f"{folder}/one.dcm", enforce_file_format=True)


seen = {}
for folder, syntax in (("native", ExplicitVRLittleEndian), ("rle", RLELossless)):
    write(folder, syntax)
    command = ["v/bin/dcm2niix", "-z", "n", "-b", "n", "-f", "image", "-o", folder, folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    voxels = np.asarray(nibabel.load(f"{folder}/image.nii").dataobj)[1::4, 0, 0]
    drawn = {
        "pydicom": dcmread(f"{folder}/one.dcm").pixel_array[0, 1::4],
        "SimpleITK": SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(f"{folder}/one.dcm")).reshape(16, 16, 3)[0, 1::4],
        "dcm2niix": np.stack([voxels[name] for name in "RGB"], axis=-1),
    }
    for name, values in drawn.items():
        far = int(np.abs(values.astype(int) - colours).max())
        print(f"{folder:6} {name:9} {values.tolist()} at most {far} levels off")
        seen[folder, name] = far <= 1
    if folder == "rle":
        assert (drawn["dcm2niix"] == ybr[0, 1::4]).all()
assert [pair for pair, right in seen.items() if not right] == [("rle", "dcm2niix")], seen
PY
