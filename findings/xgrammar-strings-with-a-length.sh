#!/usr/bin/env bash
# A maxLength in the schema turns xgrammar's JSON strings into something that is not JSON: raw tabs in, escapes
# out.
#
# Version: xgrammar 0.2.9 (PyPI), with torch 2.13.0, which it imports.
# Expected: maxLength bounds a string; what is allowed inside it stays JSON's rule (RFC 8259 section 7), as
#   without maxLength.
# Seen: with maxLength a raw tab is accepted, so that the finished answer is refused by json.loads, and every
#   escape is forbidden: no line break and no quotation mark can be written at all. Without maxLength all of these
#   are right. Text of a report has line breaks, and site schemas bound their fields.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check xgrammar==0.2.9 torch==2.13.0 transformers==5.23.0 numpy==2.4.6
timeout 120 v/bin/python - <<'PY'
import json

import xgrammar

tokens = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)] + [b"</s>"], stop_token_ids=[256])
compiler = xgrammar.GrammarCompiler(tokens)


def accepts(field, text):
    schema = {
        "type": "object",
        "properties": {"text": field},
        "required": ["text"],
        "additionalProperties": False,
    }
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema)))
    return all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)


def parses(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


wrong = {"free": [], "maxLength": []}
for name, body in (
    ("plain", "a b"),
    ("raw line break", "a\nb"),
    ("raw tab", "a\tb"),
    ("\\n", "a\\nb"),
    ("\\t", "a\\tb"),
    ('\\"', 'a\\"b'),
):
    answer = '{"text": "' + body + '"}'
    free, bounded = accepts({"type": "string"}, answer), accepts({"type": "string", "maxLength": 20}, answer)
    valid = parses(answer)
    print(f"{name}: JSON {valid}, accepted {free}, accepted with maxLength {bounded}")
    wrong["free"] += [name] * (free != valid)
    wrong["maxLength"] += [name] * (bounded != valid)
assert wrong["free"] == [] and len(wrong["maxLength"]) == 4 and "raw tab" in wrong["maxLength"], wrong
PY
