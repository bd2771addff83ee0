#!/usr/bin/env bash
# Labels saved with the header of the CT they belong to come back as 0.9998: no voxel equals 1, and 2 may be cut to 1.
#
# Versions: nibabel 5.4.2, SimpleITK 2.5.7, numpy 2.4.6.
# Expected: whole numbers 0 to 24 saved by Nifti1Image(labels, ct.affine, ct.header) are whole numbers again: the
#   header says int16, into which they fit.
# Seen: labels of floating type (get_fdata gives such, and a network's argmax may) are spread over all 65536 values of
#   the header's int16 with a slope and an intercept. Read again, 1 is 1.0001 or 0.9998: (data == 1) finds nothing, and
#   astype(int) or SimpleITK's reading as UInt8, which cut, give about a third to a half of the labels as their
#   neighbour below. The same labels as an array of int16 or uint8 come back whole.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
timeout 60 v/bin/python - <<'PY'
import nibabel
import numpy as np
import SimpleITK

ct = np.full((8, 8, 8), -1000, np.int16)
nibabel.Nifti1Image(ct, np.eye(4)).to_filename("ct.nii.gz")
read = nibabel.load("ct.nii.gz")
wanted = np.arange(25)
wrong = {}
for kind in (np.float64, np.float32, np.int16, np.uint8):
    labels = np.zeros(ct.shape, kind)
    labels.ravel()[:25] = wanted
    nibabel.Nifti1Image(labels, read.affine, read.header).to_filename("labels.nii.gz")
    again = nibabel.load("labels.nii.gz")
    data = again.get_fdata()
    flat = data.ravel()[:25]
    by_itk = SimpleITK.ReadImage("labels.nii.gz", SimpleITK.sitkUInt8)
    whole = SimpleITK.GetArrayFromImage(by_itk).transpose().ravel()[:25]
    wrong[kind.__name__] = (
        int((flat != wanted).sum()), int((flat.astype(int) != wanted).sum()), int((whole != wanted).sum())
    )
    print(f"{kind.__name__:8} slope {again.dataobj.slope:.3g}, first labels {flat[:4]}")
    print(f"{'':8} of 25 labels unlike, cut by astype, cut by SimpleITK: {wrong[kind.__name__]}")
assert wrong["int16"] == wrong["uint8"] == (0, 0, 0), wrong
assert all(wrong[name][0] > 20 and wrong[name][1] > 5 and wrong[name][2] > 5 for name in ("float64", "float32")), wrong
PY
