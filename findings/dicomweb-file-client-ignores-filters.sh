#!/usr/bin/env bash
# dicomweb-client's client for local folders answers a date range with every study there is.
#
# Version: dicomweb-client 0.61.2 (DICOMfileClient), pydicom 3.0.2.
# Expected: DICOMfileClient has the interface of DICOMwebClient, so the same search filters select the same
#   studies, and one it cannot apply is an error.
# Seen: one date, a wildcard in a name and limit are applied; a range of dates, ModalitiesInStudy,
#   StudyDescription and a misspelt key are left out of the query (a line in the log): all 3 studies come back.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2 dicomweb-client==0.61.2
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
timeout 60 v/bin/python - <<'PY' 2>client.log
import os, pathlib

from dicomweb_client import DICOMfileClient
from made import encoded, instance

folder = pathlib.Path("films")
folder.mkdir()
for number, (day, modality, name) in enumerate(
    (("20240105", "CT", "Adams^A"), ("20240120", "CR", "Baker^B"), ("20240210", "MR", "Clark^C"))
):
    one = instance(
        StudyDate=day,
        Modality=modality,
        PatientName=name,
        PatientID=f"P{number}",
        StudyDescription=f"study {number}",
    )
    one.Rows = one.Columns = 1
    (folder / f"{number}.dcm").write_bytes(encoded(one))
client = DICOMfileClient(url=f"file://{folder.resolve()}", update_db=True, in_memory=True)
found = []
for filters in (
    {"StudyDate": "20240105"},
    {"PatientName": "Ad*"},
    {"StudyDate": "20240101-20240131"},
    {"StudyDate": "20250101-"},
    {"ModalitiesInStudy": "MR"},
    {"StudyDescription": "no such"},
    {"PatentID": "P1"},
):
    rows = client.search_for_studies(search_filters=filters)
    found.append(len(rows))
    print(filters, "->", sorted(row["00100020"]["Value"][0] for row in rows))
assert found == [1, 1, 3, 3, 3, 3, 3], found
PY
