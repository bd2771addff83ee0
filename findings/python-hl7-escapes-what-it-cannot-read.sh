#!/usr/bin/env bash
# python-hl7 escapes "nodule ≥ 3 mm" in a way that nobody reads back, itself included: it comes back as nodule "e 3 mm.
#
# Versions: hl7 (python-hl7) 0.4.5, hl7apy 1.3.5.
# Expected: unescape(escape(text)) is text. In \Xdddd...\ each pair of digits is one byte (HL7 v2.5, section 2.7), in
#   the character set of MSH-18; text outside ASCII needs no escape at all when MSH-18 names such a set.
# Seen: every character outside ASCII becomes \X<code point>\: ≥ is \X2265\, which unescape reads as the two characters
#   22 and 65, "e. So 肺结节 and a dash in "3–4 mm" become other text, an emoji gives five digits, and a line feed is
#   "\X a\" with a space for a digit. é, µ and ° come back, so that a test in German passes. hl7apy leaves such text
#   as it is when it writes, and what it reads with \X2265\ or the line break \.br\ it writes with \E\X2265\E\ and
#   \E\.br\E\: the escape has become text.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check hl7==0.4.5 hl7apy==1.3.5
timeout 60 v/bin/python - <<'PY'
import hl7
from hl7apy.parser import parse_message

head = "MSH|^~\\&|A|B|C|D|20240131093000||ORU^R01^ORU_R01|1|P|2.5||||||UNICODE UTF-8\r"
message = hl7.parse(head)
given = {
    "nodule ≥ 3 mm": 'nodule "e 3 mm',
    "3–4 mm": "3 \x134 mm",
    "肺结节": "\x80º~Ó\x82\x82",
    "Größe 3 µm, 37 °C": "Größe 3 µm, 37 °C",
    "T2 & FLAIR": "T2 & FLAIR",
}
for text, wanted in given.items():
    written = message.escape(text)
    back = message.unescape(written)
    print(f"{text!r} -> {written!r} -> {back!r}")
    assert back == wanted, back
print("line feed ->", repr(message.escape("\n")))
assert message.escape("\n") == "\\X a\\"

text = message.escape("T2 & FLAIR: nodule ≥ 3 mm") + r"\.br\second line"
parsed = parse_message(head + f"PID|1||P1\rOBR|1||A1\rOBX|1|TX|1^x||{text}\r", find_groups=False)
seen = parsed.obx.to_er7()
print("hl7apy reads and writes", text, "as", seen)
assert seen == r"OBX|1|TX|1^x||T2 \T\ FLAIR: nodule \E\X2265\E\ 3 mm\E\.br\E\second line", seen
PY
