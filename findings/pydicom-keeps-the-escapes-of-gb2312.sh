#!/usr/bin/env bash
# A Chinese name by ISO 2022 IR 58, as PS3.5 annex K writes it: pydicom leaves the escape sequences in the text.
#
# Versions: pydicom 3.0.2, dcmtk 3.6.7-9~deb12u4 (Debian 12).
# Expected (guess, written first): both give Zhang^XiaoDong=张^小东, as they give the Korean name of ISO 2022 IR 149
#   (PS3.5 annex I) without its escapes; in DICOM JSON, too.
# Seen: pydicom gives ESC $ ) A before each Chinese word, in PN and in LO, and writes them into DICOM JSON, where nothing
#   says what they are; the Korean name is right. dcmdump +U8 converts both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
export LD_LIBRARY_PATH PATH="$work/root/usr/bin:$PATH" DCMDICTPATH="$work/root/usr/share/libdcmtk17/dicom.dic"
cat >seen.py <<'PY'
import io, struct, subprocess

from pydicom.filereader import read_dataset


def element(group, number, vr, value):
    value += b" " * (len(value) % 2)
    return struct.pack("<HH", group, number) + vr + struct.pack("<H", len(value)) + value


def written(terms, escape, codec, family, given):
    """Specific Character Set, Series Description and Patient's Name, each Chinese or Korean word behind its escape."""
    family, given = (escape + one.encode(codec) for one in (family, given))
    name = b"Zhang^XiaoDong=" + family + b"^" + given
    return (element(8, 5, b"CS", terms) + element(8, 0x103E, b"LO", b"AP " + family) + element(0x10, 0x10, b"PN", name))


wrong = []
for what, made, family, name in (
    ("chinese", written(b"\\ISO 2022 IR 58", b"\x1b$)A", "gb2312", "张", "小东"), "张", "张^小东"),
    ("korean", written(b"\\ISO 2022 IR 149", b"\x1b$)C", "euc_kr", "홍", "길동"), "홍", "홍^길동"),
):
    read = read_dataset(io.BytesIO(made), is_implicit_VR=False, is_little_endian=True)
    told = read.to_json_dict()
    open(f"{what}.dcm", "wb").write(made)
    command = ["dcmdump", "-f", "+U8", "+P", "0010,0010", f"{what}.dcm"]
    dumped = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8", "replace")
    print(what, "pydicom:", repr(str(read.PatientName)), repr(read.SeriesDescription))
    print(what, "pydicom, DICOM JSON:", repr(told["00100010"]["Value"][0]["Ideographic"]))
    print(what, "dcmdump +U8:", dumped.strip()[:70])
    plain = str(read.PatientName) == f"Zhang^XiaoDong={name}" and read.SeriesDescription == f"AP {family}"
    escapes = told["00100010"]["Value"][0]["Ideographic"].count("\x1b$)A")
    if plain is (what == "chinese") or (what == "chinese" and escapes != 2) or name not in dumped:
        wrong.append(what)
raise SystemExit(f"no longer so: {wrong}" if wrong else 0)
PY
v/bin/python seen.py
