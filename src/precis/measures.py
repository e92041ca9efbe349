"""The measures: what of the document is recovered, and how alike two answers are as texts.

Those of texts are SQuAD's (Rajpurkar et al., 2016, arXiv 1606.05250).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles, single blanks."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(said: str, gold: str) -> float:
    """1 if the answers are the same after normalisation, else 0."""
    return float(normalised(said) == normalised(gold))


def is_right(said: str, humans: Iterable[str]) -> bool:
    """Whether a human's answer occurs in what was said, as whole words after normalisation.

    Small models answer in sentences where humans gave a few words, so the two are seldom the same; the
    length of answers has to be told beside this, since what quotes the whole document holds every answer.
    """
    words = f" {normalised(said)} "
    return any(f" {human} " in words for human in map(normalised, humans) if human)


def token_f1(said: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words that two answers share."""
    said_words, gold_words = normalised(said).split(), normalised(gold).split()
    if not said_words or not gold_words:
        return float(said_words == gold_words)
    shared = sum((Counter(said_words) & Counter(gold_words)).values())
    return 2 * shared / (len(said_words) + len(gold_words))


def recovery(nll_none: float, nll: float, nll_full: float) -> float | None:
    """(NLL_none − NLL_σ) / (NLL_none − NLL_full); None where the document does not help."""
    gap = nll_none - nll_full
    return (nll_none - nll) / gap if gap > 0 else None
