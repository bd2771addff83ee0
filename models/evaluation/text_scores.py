"""Text metrics as sums over cases: pinned tokens, BLEU, ROUGE-L, chrF, token overlap. No scorer is downloaded."""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.chrf import CHRF

from pipeline.report import Language

TOKENS = {
    Language.ENGLISH: "lower-cased letters and digits, inner . ' and - kept, punctuation dropped",
    Language.CHINESE: "jieba words (accurate mode, HMM off), punctuation dropped",
}
"""How text is cut into tokens, per language."""
_WORD = re.compile(r"[^\W_]+(?:[.'-][^\W_]+)*")
_HAN = re.compile(r"[\u3400-\u9fff]")


@cache
def _segmenter() -> Any:
    import jieba

    tokenizer = jieba.Tokenizer()
    with tempfile.TemporaryDirectory() as own:  # its marshalled dictionary is never read from a shared folder
        tokenizer.tmp_dir = own
        jieba.setLogLevel(60)
        tokenizer.initialize()
    return tokenizer


def tokens(text: str, language: Language) -> list[str]:
    """The tokens of ``text`` as ``TOKENS`` says."""
    if language is Language.CHINESE:
        return [word.lower() for word in _segmenter().lcut(text, HMM=False) if _WORD.search(word)]
    return _WORD.findall(text.lower())


def characters(text: str) -> list[str]:
    """Chinese characters one by one, runs of other letters and digits whole."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", text.lower())


def bleu_counts(candidate: Sequence[str], reference: Sequence[str]) -> NDArray[np.float64]:
    """[10] matches of 1- to 4-grams (clipped), their numbers in the candidate, both lengths."""
    matches, totals = [], []
    for size in range(1, 5):
        own, true = _grams(candidate, size), _grams(reference, size)
        matches.append(float((own & true).total()))
        totals.append(float(own.total()))
    return np.array([*matches, *totals, len(candidate), len(reference)], np.float64)


def bleu(counts: NDArray[np.float64], order: int) -> float:
    """Corpus BLEU-``order``, 0..1, of summed ``bleu_counts``: brevity penalty, no smoothing."""
    matches, totals = counts[:order], counts[4 : 4 + order]
    if not counts[8] or (matches == 0).any():
        return 0.0
    precision = sum(log(m / t) for m, t in zip(matches, totals, strict=True)) / order
    return exp(min(0.0, 1.0 - counts[9] / counts[8]) + precision)


def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence, 0..1 (beta 1, the whole text as one sequence)."""
    if not candidate or not reference:
        return 0.0
    row = [0] * (len(reference) + 1)
    for word in candidate:
        diagonal = 0
        for place, other in enumerate(reference, 1):
            kept = row[place]
            row[place] = diagonal + 1 if word == other else max(row[place], row[place - 1])
            diagonal = kept
    return 2 * row[-1] / (len(candidate) + len(reference))


def overlap(candidate: Sequence[str], reference: Sequence[str]) -> tuple[float, float]:
    """Token F1 and recall, 0..1, by multiset."""
    common = (Counter(candidate) & Counter(reference)).total()
    if not common:
        return 0.0, 0.0
    return 2 * common / (len(candidate) + len(reference)), common / len(reference)


def chrf(candidate: str, reference: str) -> float:
    """sacrebleu's chrF2 of one text (characters to 6-grams, no words, beta 2), 0..1."""
    return float(CHRF().sentence_score(candidate, [reference]).score) / 100


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
