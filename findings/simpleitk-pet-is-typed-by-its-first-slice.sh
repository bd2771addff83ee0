#!/usr/bin/env bash
# A PET series whose first slope is a whole number is cut to whole numbers in SimpleITK: 250.25 Bq/ml is 250.
#
# Versions: SimpleITK 2.5.7, dcm2niix 1.0.20260724, nibabel 5.4.2, pydicom 3.0.2, numpy 2.4.6.
# Expected: slices of PET carry each their own Rescale Slope (PS3.3 section C.8.9.4); a series with slopes 1, 0.25, 0.5
#   and 0.125 has the activities 1001, 250.25, 500.5 and 125.125, whichever slice comes first.
# Seen: the reader takes the type of the volume from the first file. Slope 1 makes it int16, and the other slices are
#   cut to that: 250, 500, 125, without a warning. With the slopes the other way round the type is float64 and nothing
#   is lost. dcm2niix writes float32 both times. With small activities, as near zero in SUV, all but nothing is left.
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
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid


def series(folder, slopes):
    Path(folder).mkdir()
    study, of, space = generate_uid(), generate_uid(), generate_uid()
    for number, slope in enumerate(slopes):
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = PositronEmissionTomographyImageStorage, generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, of, space
        made.PatientID, made.PatientName, made.Modality, made.Manufacturer = "P1", "Test^Case", "PT", "X"
        made.ImageType, made.SeriesType, made.Units = ["ORIGINAL", "PRIMARY"], ["STATIC", "IMAGE"], "BQML"
        made.CorrectedImage, made.DecayCorrection = ["DECY", "ATTN"], "START"
        made.StudyDate = made.SeriesDate = made.AcquisitionDate = "20240131"
        made.StudyTime = made.SeriesTime = made.AcquisitionTime = "093000"
        made.SeriesNumber, made.InstanceNumber, made.ImageIndex = 1, number + 1, number + 1
        made.NumberOfSlices, made.FrameReferenceTime, made.ActualFrameDuration = len(slopes), 0, 1000
        made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
        made.PixelSpacing, made.SliceThickness, made.Rows, made.Columns = [2, 2], 3, 16, 16
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 1
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.RescaleSlope, made.RescaleIntercept = slope, 0
        made.PixelData = np.full((16, 16), 1001, "<i2").tobytes()
        made.save_as(f"{folder}/{number}.dcm", enforce_file_format=True)


seen = {}
slopes = [1, 0.25, 0.5, 0.125]
for folder, given in (("whole-first", slopes), ("whole-last", slopes[::-1])):
    series(folder, given)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    volume = reader.Execute()
    by_itk = SimpleITK.GetArrayFromImage(volume)[:, 0, 0].tolist()
    Path(f"{folder}.out").mkdir()
    converted = ["v/bin/dcm2niix", "-z", "n", "-f", "volume", "-o", f"{folder}.out", folder]
    subprocess.run(converted, check=True, stdout=subprocess.DEVNULL)
    by_dcm2niix = nibabel.load(f"{folder}.out/volume.nii").get_fdata()[0, 0].tolist()
    wanted = [1001 * slope for slope in given]
    print(f"{folder:11} wanted   ", wanted)
    print(f"{'':11} SimpleITK", by_itk, volume.GetPixelIDTypeAsString())
    print(f"{'':11} dcm2niix ", by_dcm2niix)
    seen[folder] = by_itk == wanted, by_dcm2niix == wanted, volume.GetPixelID() == SimpleITK.sitkInt16
assert seen == {"whole-first": (False, True, True), "whole-last": (True, True, False)}, seen
PY
