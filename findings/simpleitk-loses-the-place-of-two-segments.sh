#!/usr/bin/env bash
# A segmentation with one segment lies right in SimpleITK; with two it has spacing 1 x 1 x 1 and is upside down.
#
# Versions: SimpleITK 2.5.7, highdicom 0.28.2, pydicom 3.0.2, dcm2niix 1.0.20260724, nibabel 5.4.2, numpy 2.4.6.
# Expected: the frames of both say where they lie, plane by plane, and the pixel measures that all share say 2 x 2 mm in
#   planes 3 mm apart; a reader that stacks six frames as one volume refuses, or keeps at least what they share.
# Seen: one segment is 16 x 16 x 3, spacing 2, 2, 3, its third axis pointing down as the frames do (highdicom writes the
#   highest plane first). Two segments are 16 x 16 x 6, spacing 1, 1, 1, the third axis pointing up from the highest
#   plane: every voxel but one stands elsewhere, without a warning. dcm2niix makes 16 x 16 x 3 x 2 with the right
#   affine of the same file. As a label map (LABELMAP) the file is not read by SimpleITK at all.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check SimpleITK==2.5.7 highdicom==0.28.2 \
  pydicom==3.0.2 dcm2niix==1.0.20260724 nibabel==5.4.2 numpy==2.4.6
timeout 100 v/bin/python - <<'PY'
import subprocess
import warnings
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

warnings.filterwarnings("ignore")
study, series, space = generate_uid(), generate_uid(), generate_uid()


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
    made.ImagePositionPatient, made.ImageOrientationPatient = [-10, -20, 5 + 3 * number], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.Rows, made.Columns = [2, 2], 3, 16, 16
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = np.full((16, 16), 1000, "<u2").tobytes()
    return made


def written(name, kind, words):
    labels = np.zeros((3, 16, 16), np.uint8)
    for number in range(1, len(words) + 1):
        labels[:, 4 * number : 4 * number + 3, 2:6] = number
    segments = [
        highdicom.seg.SegmentDescription(number, word.meaning, codes.SCT.Organ, word, "MANUAL")
        for number, word in enumerate(words, 1)
    ]
    made = highdicom.seg.Segmentation(
        planes, labels, kind, segments, generate_uid(), 2, generate_uid(), 1, "X", "Y", "1", "S1"
    )
    Path(name).mkdir()
    made.save_as(f"{name}/one.dcm")


planes = [plane(number) for number in range(3)]
seen = {}
for name, kind, words in (
    ("one", "BINARY", [codes.SCT.Liver]),
    ("two", "BINARY", [codes.SCT.Liver, codes.SCT.Spleen]),
    ("map", "LABELMAP", [codes.SCT.Liver, codes.SCT.Spleen]),
):
    written(name, kind, words)
    try:
        volume = SimpleITK.ReadImage(f"{name}/one.dcm")
        place = volume.GetSize(), volume.GetSpacing(), volume.GetOrigin(), volume.GetDirection()[8]
    except RuntimeError as why:
        place = "not read"
    print(f"{name}: SimpleITK size, spacing, origin, third axis:", *place if place != "not read" else [place])
    seen[name] = place
    command = ["v/bin/dcm2niix", "-z", "n", "-b", "n", "-f", "volume", "-o", name, name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in Path(name).glob("*.nii"):
        made = nibabel.load(path)
        print(f"     dcm2niix  shape {made.shape}, zooms {[float(zoom) for zoom in made.header.get_zooms()[:3]]},",
              f"lowest plane at {made.affine[2, 3]} mm")
        assert made.shape[:3] == (16, 16, 3) and made.affine[2, 3] == 5
assert seen == {
    "one": ((16, 16, 3), (2.0, 2.0, 3.0), (-10.0, -20.0, 11.0), -1.0),
    "two": ((16, 16, 6), (1.0, 1.0, 1.0), (-10.0, -20.0, 11.0), 1.0),
    "map": "not read",
}, seen
PY
