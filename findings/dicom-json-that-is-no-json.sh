#!/usr/bin/env bash
# Valid DICOM numbers that become text no JSON parser takes: dcm2json and pydicom each fail on others.
#
# Versions: dcmtk 3.6.7-9~deb12u4 (Debian 12), pydicom 3.0.2.
# Expected: every valid DS and every IEEE float has a spelling in DICOM JSON (PS3.18 section F.2.3), and both
#   tools find it.
# Seen: dcm2json copies DS "1." and FD NaN as they are ("1." and "nan"), exit 0, and json.loads refuses the whole
#   instance; it does mend "+1.5" and ".5". pydicom takes "1." and writes the bare word NaN, which JSON does not
#   have, and its to_json raises ValueError for a DS with an empty value between two others, which PS3.5 section
#   6.4 allows.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pydicom==3.0.2
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
timeout 60 v/bin/python - <<'PY'
import json, logging, subprocess, warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)  # pydicom logs a trace beside the error that it raises
from made import encoded, instance


def refuse(word):
    raise ValueError(f"JSON has no {word}")


def tried(text):
    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return "no JSON: " + str(error)[:60]
    return "JSON"


def dcm2json(made):
    with open("one.dcm", "wb") as file:
        file.write(encoded(made))
    ran = subprocess.run(["dcm2json", "one.dcm"], capture_output=True, text=True, timeout=20, check=True)
    return tried(ran.stdout)


def pydicom_json(made):
    try:
        return tried(made.to_json())
    except ValueError as error:
        return "ValueError: " + str(error)[:60]


seen = {}
for title, tag, vr, value in (
    ("DS +1.5\\.5", 0x00280030, "DS", ["+1.5", ".5"]),
    ("DS 1.", 0x00281050, "DS", "1."),
    ("FD NaN", 0x00189073, "FD", float("nan")),
    ("DS 40\\\\60", 0x00281050, "DS", ["40", "", "60"]),
):
    made = instance()
    made.add_new(tag, vr, value)
    seen[title] = (dcm2json(made), pydicom_json(made))
    print(f"{title}: dcm2json: {seen[title][0]} | pydicom: {seen[title][1]}")
kinds = [tuple(answer.split(":")[0] for answer in pair) for pair in seen.values()]
assert kinds == [("JSON", "JSON"), ("no JSON", "JSON"), ("no JSON", "no JSON"), ("JSON", "ValueError")], kinds
PY
