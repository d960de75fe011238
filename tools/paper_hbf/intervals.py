"""Means, quantiles and paired differences over independent draws, each with its 95 % interval.

Intervals of means are t intervals on the linear scale. A paired difference of two NMSE in decibels is that of the means
over the draws that both have, its interval from the scatter of a_i / mean(a) - b_i / mean(b) (the delta method), which
takes out what the draws have in common. Quantiles have the interval of their order statistics (binomial).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

from beamslot.dsp.metrics import NmseMean


class Figure(NamedTuple):
    """A number with its 95 % interval; NaN where it is not known."""

    value: float
    low: float
    high: float


NOTHING = Figure(math.nan, math.nan, math.nan)


def decibels(linear: float) -> float:
    """Return 10 log10, NaN below or at zero."""
    return 10 * math.log10(linear) if linear > 0 else math.nan


def mean_db(values: Sequence[float]) -> Figure:
    """Return the mean of linear values in decibels."""
    if not values:
        return NOTHING
    total = NmseMean()
    total.add(np.arange(len(values)), np.asarray(values))
    found = total.result()
    low, high = found["ci95_db"] or (None, None)
    return Figure(*(math.nan if x is None else x for x in (found["nmse_db"], low, high)))


def mean(values: Sequence[float]) -> Figure:
    """Return the mean of what is finite."""
    known = _finite(values)
    if not len(known):
        return NOTHING
    half = _t(len(known)) * known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    centre = float(known.mean())
    return Figure(centre, centre - half, centre + half)


def root_mean(values: Sequence[float]) -> Figure:
    """Return the root of the mean of what is finite, such as squared errors."""
    return Figure(*(math.sqrt(x) if x >= 0 else math.nan for x in mean(values)))


def root_ratio(sums: Sequence[float], counts: Sequence[float]) -> Figure:
    """Return the root of sum over sum, the interval over draws (delta method)."""
    top, bottom = np.asarray(sums, float), np.asarray(counts, float)
    if bottom.sum() <= 0:
        return NOTHING
    ratio, draws = top.sum() / bottom.sum(), len(top)
    scatter = (top - ratio * bottom).std(ddof=1) / bottom.mean() if draws > 1 else math.nan
    half = _t(draws) * scatter / math.sqrt(draws)
    return Figure(*(math.sqrt(x) if x >= 0 else math.nan for x in (ratio, ratio - half, ratio + half)))


def quantile_db(values: Sequence[float], share: float) -> Figure:
    """Return a quantile of linear values in decibels; an end that the draws are too few for is NaN."""
    known = np.sort(_finite(values))
    draws = len(known)
    if not draws:
        return NOTHING
    ranks = np.searchsorted(bdtr(np.arange(draws + 1), draws, share), [0.025, 0.975])
    low, high = int(ranks[0]), int(ranks[1]) + 1
    ends = [known[low - 1] if low >= 1 else math.nan, known[high - 1] if high <= draws else math.nan]
    return Figure(*(decibels(float(x)) for x in (np.quantile(known, share), *ends)))


def difference_db(first: Sequence[float], second: Sequence[float]) -> Figure:
    """Return the NMSE of the first less that of the second in decibels, paired by draw; the shorter one decides."""
    draws = min(len(first), len(second))
    one, other = np.asarray(first[:draws], float), np.asarray(second[:draws], float)
    if draws < 2 or not (one.mean() > 0 and other.mean() > 0):
        return NOTHING
    scatter = (one / one.mean() - other / other.mean()).std(ddof=1) / math.sqrt(draws)
    half = _t(draws) * scatter * 10 / math.log(10)
    centre = decibels(one.mean() / other.mean())
    return Figure(centre, centre - half, centre + half)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    known = np.asarray(values, float)
    return known[np.isfinite(known)]


def _t(draws: int) -> float:
    return float(stdtrit(draws - 1, 0.975)) if draws > 1 else math.nan
