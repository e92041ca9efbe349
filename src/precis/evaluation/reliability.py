"""Whether confidence can be believed: how often answers of a stated confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precis.evaluation.bootstrap import wilson_interval

# Shares of questions re-read at which a report states the agreement.
RE_READ_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
BINS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Some answers of like confidence.

    Parameters
    ----------
    confidence
        Their mean confidence.
    agreement
        The share of them that agree.
    low, high
        95 % interval of that share (Wilson's).
    count
        How many they are.
    """

    confidence: float
    agreement: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class TradeOff:
    """Agreement where a share of the questions, the least confident first, is answered from the document.

    Parameters
    ----------
    share
        Of the questions.
    agreement
        Share of all answers that agree; re-read ones do.
    perfect, chance
        The same where all that disagree come first, and where questions are drawn by lot.
    """

    share: float
    agreement: float
    perfect: float
    chance: float


@dataclass(frozen=True)
class Reliability:
    """How far confidence can be believed, and what can be done with it.

    Parameters
    ----------
    base_rate
        Share of the answers that agree.
    calibration_error
        Expected calibration error: the mean distance of `bins` between confidence and agreement,
        weighted by their counts (Naeini et al., 2015).
    bins
        The reliability curve: answers in bins of equal counts, from the least confident.
    trade_off
        At the shares of `RE_READ_SHARES`.
    """

    base_rate: float
    calibration_error: float
    bins: tuple[Bin, ...]
    trade_off: tuple[TradeOff, ...]


def reliability(confidences: Sequence[float], agreed: Sequence[bool]) -> Reliability | None:
    """Hold confidences against what came true; None where there are none."""
    if not confidences:
        return None
    stated, outcomes = np.asarray(confidences, dtype=np.float64), np.asarray(agreed, dtype=np.float64)
    order = np.argsort(stated, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    bins = tuple(_bin(stated[part], outcomes[part]) for part in parts)
    error = sum(part.count * abs(part.confidence - part.agreement) for part in bins) / len(stated)
    return Reliability(
        base_rate=float(outcomes.mean()),
        calibration_error=error,
        bins=bins,
        trade_off=tuple(_trade_off(stated, outcomes)),
    )


def _bin(stated: Floats, outcomes: Floats) -> Bin:
    count, share = len(outcomes), float(outcomes.mean())
    low, high = wilson_interval(share, count)
    return Bin(float(stated.mean()), share, low, high, count)


def _trade_off(stated: Floats, outcomes: Floats) -> list[TradeOff]:
    count, base = len(stated), float(outcomes.mean())
    # questions of one confidence have no order among themselves: each counts as their mean
    means = {value: outcomes[stated == value].mean() for value in stated}
    expected = np.array([means[value] for value in np.sort(stated)])
    curve = np.append(base, base + np.cumsum(1 - expected) / count)
    shares = np.arange(count + 1) / count
    return [
        TradeOff(
            share=share,
            agreement=min(1.0, float(np.interp(share, shares, curve))),
            perfect=min(1.0, base + share),
            chance=base + share * (1 - base),
        )
        for share in RE_READ_SHARES
    ]
