#!/usr/bin/env bash
# rouge-score gives two identical Chinese reports 0 and two that contradict each other 1.
#
# Version: rouge-score 0.1.2 (PyPI).
# Expected: text that is the same scores 1 in any language, or the tokenizer refuses what it cannot split.
# Seen: the tokenizer keeps a-z and 0-9 alone. Without digits nothing is left and the score is 0; with a measure
#   only its digits and unit are compared, so that left and right, nodule and cavity, and a denied pneumothorax
#   count as the same.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check rouge-score==0.1.2
timeout 60 v/bin/python - <<'PY'
from rouge_score.rouge_scorer import RougeScorer

scorer = RougeScorer(["rouge1", "rougeL"])
seen = []
for reference, draft in (
    ("双肺纹理清晰，未见气胸", "双肺纹理清晰，未见气胸"),
    ("右肺 3 mm 结节，未见气胸", "左肺 3 mm 空洞，大量气胸"),
    ("no pneumothorax", "no pneumothorax"),
):
    score = scorer.score(reference, draft)
    seen.append((score["rouge1"].fmeasure, score["rougeL"].fmeasure))
    print(reference, "|", draft, "| ROUGE-1, ROUGE-L:", seen[-1])
assert seen == [(0, 0), (1, 1), (1, 1)]
PY
