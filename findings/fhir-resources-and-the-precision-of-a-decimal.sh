#!/usr/bin/env bash
# fhir.resources reads 1.50 mm and writes 1.5 mm, and a long decimal as another number; R4 has digits as meaning.
#
# Version: fhir.resources 8.3.0 (R4B models, fhir-core 1.1.12).
# Expected: "the precision of the decimal value has significance: 0.010 is regarded as different to 0.01", and
#   implementations preserve it (R4 datatypes, decimal).
# Seen: JSON is read through a float: 1.50 is held as Decimal('1.5') and written 1.5, 2.00 is 2.0, 100.10 is 100.1,
#   and 123456789012345678.123 is 123456789012345680. Given as Decimal('1.50') it is held so, and written 1.5 all the
#   same. An instant of nine digits is cut to six.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check fhir.resources==8.3.0 fhir-core==1.1.12
timeout 60 v/bin/python -W error - <<'PY'
import re
from decimal import Decimal

from fhir.resources.R4B.observation import Observation

seen = {}
for digits in ("1.50", "2.00", "100.10", "0.010", "123456789012345678.123"):
    text = (
        '{"resourceType":"Observation","status":"final","code":{"text":"diameter"},'
        '"issued":"2026-01-31T23:30:00.123456789Z","valueQuantity":{"value":' + digits + ',"unit":"mm"}}'
    )
    read = Observation.model_validate_json(text)
    written = read.model_dump_json()
    seen[digits] = re.search(r'"value":([^,}]*)', written)[1]
    print(digits, "| held:", repr(read.valueQuantity.value), "| written:", seen[digits])
issued = re.search(r'"issued":"([^"]*)"', written)[1]
print("2026-01-31T23:30:00.123456789Z | written:", issued)
assert seen == {
    "1.50": "1.5",
    "2.00": "2.0",
    "100.10": "100.1",
    "0.010": "0.01",
    "123456789012345678.123": "123456789012345680",
}
assert issued == "2026-01-31T23:30:00.123456Z"
given = {"status": "final", "code": {"text": "diameter"}, "valueQuantity": {"value": Decimal("1.50")}}
read = Observation.model_validate(given)
print("given as Decimal | held:", repr(read.valueQuantity.value), "| written:", read.model_dump_json()[-11:-1])
assert str(read.valueQuantity.value) == "1.50" and '"value":1.5}' in read.model_dump_json()
PY
