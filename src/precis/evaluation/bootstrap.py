"""Confidence intervals by bootstrap over questions (Efron, 1979).

Questions are drawn anew within every document, so an interval tells of the questions, not of which documents
were taken. Two methods are compared by the differences between their outcomes on the same questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def recovery_interval(
    gains: Sequence[Sequence[float]], gaps: Sequence[Sequence[float]], seed: int = 0
) -> Interval | None:
    """Bound the mean recovery over some documents, had other questions been asked about them.

    Parameters
    ----------
    gains
        `[document][question]`: NLL without the document minus NLL with the method, summed over the
        tokens of the question's ŷ.
    gaps
        `[document][question]`: NLL without the document minus NLL with all of it, summed likewise.

    Returns
    -------
    The 95 % interval, of percentiles; None where a document does not help in one of the draws, as no bound
    can then be given.
    """
    sums = _drawn_sums([gains, gaps], seed)
    return _interval(np.mean([_ratio(gain, gap) for gain, gap in sums], axis=0)) if sums else None


def mean_interval(values: Sequence[Sequence[float]], seed: int = 0) -> Interval | None:
    """Bound the mean over some documents of each one's mean over its questions.

    Parameters
    ----------
    values
        `[document][question]`: whether the answer is right, say, or by how much one method is better.

    Returns
    -------
    The 95 % interval, of percentiles; None where a document has no question.
    """
    return recovery_interval(values, [[1.0] * len(each) for each in values], seed)


def ratio_interval(
    numerators: Sequence[Sequence[float]], denominators: Sequence[Sequence[float]], seed: int = 0
) -> Interval | None:
    """Bound a ratio of sums over all questions of all documents: one method's right answers over another's.

    Parameters
    ----------
    numerators, denominators
        `[document][question]`, of the same questions.

    Returns
    -------
    The 95 % interval, of percentiles; None where a denominator is 0 in one of the draws.
    """
    sums = _drawn_sums([numerators, denominators], seed)
    if not sums:
        return None
    above, below = (np.sum([pair[place] for pair in sums], axis=0) for place in (0, 1))
    return _interval(_ratio(above, below))


def _drawn_sums(columns: Sequence[Sequence[Sequence[float]]], seed: int) -> list[list[Floats]]:
    """Sum up some columns over the same drawn questions: `[document][column][draw]`."""
    draw = np.random.default_rng(seed)
    found = []
    for document in zip(*columns, strict=True):
        count = len(document[0])
        chosen = draw.integers(count, size=(DRAWS, count)) if count else np.zeros((DRAWS, 0), dtype=np.int64)
        found.append([np.asarray(values, dtype=np.float64)[chosen].sum(1) for values in document])
    return found


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide draw by draw; nan where there is nothing to divide by."""
    ratios = np.full(DRAWS, np.nan)
    np.divide(above, below, out=ratios, where=below > 0)
    return ratios


def _interval(found: Floats) -> Interval | None:
    if np.isnan(found).any():
        return None
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share that was counted (Wilson, 1927): of use for few counts, and near 0 and 1."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
