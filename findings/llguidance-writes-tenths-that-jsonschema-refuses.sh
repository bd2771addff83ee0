#!/usr/bin/env bash
# A third of the tenths that llguidance lets a model write under "multipleOf": 0.1 are invalid to jsonschema.
#
# Versions: llguidance 1.9.1, jsonschema 4.26.0, numpy 2.4.6.
# Expected: a number is valid "only if division by this keyword's value results in an integer" (JSON Schema Validation
#   2020-12, section 6.2.1): 0.3 is three tenths, 0.07 seven hundredths, and who constrains and who validates agree.
# Seen: the grammar takes 0.0 to 9.9 in steps of 0.1; jsonschema divides doubles and refuses 33 of the 100, 0.3, 0.6 and
#   0.7 first; of hundredths up to 10 it refuses 159 of 1,001. So an answer that could not leave its schema is thrown
#   away by the check that follows. With Decimal for the numbers of text and schema (parse_float) it takes them all.
#   A quarter agrees. The grammar in its turn keeps out 0.30 under "maximum": 0.3, which is valid.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check llguidance==1.9.1 jsonschema==4.26.0 numpy==2.4.6
timeout 60 v/bin/python -W error - <<'PY'
import json
from decimal import Decimal

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper


class Bytes:  # a token for each byte, and one that ends a text
    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]
    tokens = [bytes([one]) for one in range(256)] + [b"<end>"]

    def __call__(self, text):
        return list(text.encode() if isinstance(text, str) else text)


tokenizer = LLTokenizer(TokenizerWrapper(Bytes()))


def refused(schema, texts):
    grammar = LLMatcher.grammar_from_json_schema(schema)
    rules = Draft202012Validator(json.loads(schema))
    exact = Draft202012Validator(json.loads(schema, parse_float=Decimal))
    by_grammar, by_rules, by_decimals = [], [], []
    for text in texts:
        matcher = LLMatcher(tokenizer, grammar)
        if matcher.try_consume_tokens(list(text.encode())) != len(text) or not matcher.is_accepting():
            by_grammar.append(text)
        if not rules.is_valid(json.loads(text)):
            by_rules.append(text)
        if not exact.is_valid(json.loads(text, parse_float=Decimal)):
            by_decimals.append(text)
    found = len(by_grammar), len(by_rules), len(by_decimals)
    print(schema, "| of", len(texts), "grammar, jsonschema, jsonschema of decimals refuse", *found, *by_rules[:3])
    return found


assert refused('{"type": "number", "multipleOf": 0.1}', [f"{n / 10:.1f}" for n in range(100)]) == (0, 33, 0)
assert refused('{"type": "number", "multipleOf": 0.01}', [f"{n / 100:.2f}" for n in range(1001)])[1:] == (159, 0)
assert refused('{"type": "number", "multipleOf": 0.25}', [f"{n / 4:.2f}" for n in range(40)])[1:] == (0, 0)
assert refused('{"type": "number", "minimum": 0.1, "maximum": 0.3}', ["0.3", "0.30"]) == (1, 0, 0)
PY
