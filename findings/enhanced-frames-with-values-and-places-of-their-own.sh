#!/usr/bin/env bash
# An enhanced PET whose frames have a rescale each: SimpleITK gives stored values. One with a missing plane: it loses
# the spacing, and dcm2niix spreads the planes evenly. Neither says so.
#
# Versions: SimpleITK 2.5.7, dcm2niix 1.0.20260724 (PyPI), pydicom 3.0.2, nibabel 5.4.2.
# Expected: the Pixel Value Transformation Sequence of a frame is that frame's (PS3.3 section C.7.6.16.2.9), as is its
#   plane's position: values 100, 200, 300, 400; planes at 0, 3, 6 and 12 mm, or a refusal or warning of the gap.
# Seen: SimpleITK reads 100, 100, 100, 100 of slopes 1 to 4 (dcm2niix reads them right). With a plane missing at 9 mm
#   SimpleITK says spacing 1 x 1 x 1 where the file says 2 x 2 mm in plane and 3 mm between planes; dcm2niix writes
#   4 mm between planes, so that two of four stand where they were not; its output warns of other things.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check SimpleITK==2.5.7 dcm2niix==1.0.20260724 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
timeout 120 v/bin/python -W error - <<'PY'
import pathlib
import subprocess

import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedPETImageStorage, ExplicitVRLittleEndian, generate_uid


def one(**values):
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def written(name, slopes, places):
    made = one(
        SOPClassUID=EnhancedPETImageStorage, SOPInstanceUID=generate_uid(), StudyInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid(), PatientID="P1",
        PatientName="Test^Case", Modality="PT", StudyDate="20240131", StudyTime="093000", StudyID="1",
        AccessionNumber="", SeriesNumber=1, InstanceNumber=1, Manufacturer="X", ContentDate="20240131",
        ContentTime="093000", ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], Rows=8, Columns=8,
        NumberOfFrames=4, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, PatientPosition="HFS",
    )
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SharedFunctionalGroupsSequence = [one(
        PlaneOrientationSequence=[one(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[one(PixelSpacing=[2, 2], SliceThickness=3)],
    )]
    made.PerFrameFunctionalGroupsSequence = [
        one(
            PlanePositionSequence=[one(ImagePositionPatient=[0, 0, place])],
            PixelValueTransformationSequence=[one(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")],
            FrameContentSequence=[one(StackID="1", InStackPositionNumber=n, DimensionIndexValues=[1, n])],
        )
        for n, (slope, place) in enumerate(zip(slopes, places), 1)
    ]
    organisation = generate_uid()
    made.DimensionOrganizationSequence = [one(DimensionOrganizationUID=organisation)]
    made.DimensionIndexSequence = [
        one(DimensionOrganizationUID=organisation, DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111)
        for tag in (0x00209056, 0x00209057)
    ]
    made.PixelData = np.full((4, 8, 8), 100, np.uint16).tobytes()
    folder = pathlib.Path(name)
    folder.mkdir()
    made.save_as(folder / "film.dcm", enforce_file_format=True)
    itk = SimpleITK.ReadImage(str(folder / "film.dcm"))
    told = subprocess.run(
        ["v/bin/dcm2niix", "-f", "volume", "-o", name, folder], capture_output=True, text=True, check=True
    )
    nifti = nibabel.load(folder / "volume.nii")
    seen = (
        SimpleITK.GetArrayFromImage(itk)[:, 0, 0].tolist(), itk.GetSpacing(),
        np.asarray(nifti.dataobj)[0, 0].tolist(), [float(nifti.affine[2] @ [0, 0, n, 1]) for n in range(4)],
        [line for line in told.stdout.splitlines() if "Warning" in line],
    )
    print(name, "| SimpleITK: values, spacing:", *seen[:2], "| dcm2niix: values, places, warnings:", *seen[2:])
    return seen


rescaled = written("rescale", [1, 2, 3, 4], [0, 3, 6, 9])
assert rescaled[0] == [100] * 4 and rescaled[1] == (2, 2, 3)
assert rescaled[2] == [100, 200, 300, 400] and rescaled[3] == [0, 3, 6, 9]
gap = written("gap", [1, 1, 1, 1], [0, 3, 6, 12])
assert gap[1] == (1, 1, 1) and gap[3] == [0, 4, 8, 12]
assert not any("gap" in line or "spac" in line or "slice" in line for line in gap[4])
PY
