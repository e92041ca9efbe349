"""Confidence intervals by bootstrap over questions (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
CONFIDENCE = 0.95


def recovery_interval(
    gains: Sequence[Sequence[float]], gaps: Sequence[Sequence[float]], seed: int = 0
) -> tuple[float, float] | None:
    """Bound the mean recovery over some documents, had other questions been asked about them.

    Questions are drawn anew within every document, so the interval tells of the questions, not of which
    documents were taken.

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
    draw = np.random.default_rng(seed)
    means = np.zeros(DRAWS)
    for gain, gap in zip(gains, gaps, strict=True):
        means += _recoveries(np.asarray(gain), np.asarray(gap), draw) / len(gains)
    if not len(gains) or np.isnan(means).any():
        return None
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _recoveries(
    gain: NDArray[np.float64], gap: NDArray[np.float64], draw: np.random.Generator
) -> NDArray[np.float64]:
    """Give one document's recovery in every draw; nan where the drawn questions leave no gap."""
    if not len(gain):
        return np.full(DRAWS, np.nan)
    chosen = draw.integers(len(gain), size=(DRAWS, len(gain)))
    sums = gap[chosen].sum(1)
    recoveries = np.full(DRAWS, np.nan)
    np.divide(gain[chosen].sum(1), sums, out=recoveries, where=sums > 0)
    return recoveries
