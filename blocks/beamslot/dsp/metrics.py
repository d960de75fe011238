"""Figures of merit over independent channel draws.

| symbol | name | meaning |
|---|---|---|
| NMSE | nmse, NmseMean | mean over draws of ||h_hat - h||^2 / ||h||^2 on the full N_r-dimensional channel |

source: paper 004 names the NMSE without defining it. Decision: a ratio per draw, their mean, then decibels
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from beamslot.errors import ShapeError


def nmse(estimate: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Return ||h_hat - h||^2 / ||h||^2 of each channel, linear.

    estimate, truth: (..., y, z) complex [sqrt(W)]
    returns (...) float64, NaN where the truth is zero    raises ShapeError when the two differ
    """
    if estimate.shape != truth.shape:
        raise ShapeError(f"nmse: estimate is {estimate.shape}, truth {truth.shape}")
    energy = _energy(truth)
    return np.divide(_energy(estimate - truth), energy, out=np.full_like(energy, np.nan), where=energy > 0)


def _energy(field: NDArray[Any]) -> NDArray[np.float64]:
    return np.einsum("...yz,...yz->...", field, field.conj(), dtype=np.complex128).real


class NmseMean:
    """Running mean of the NMSE over independent draws, the same to the last bit however the slots are split or ordered.

    Slots (and users) of one draw are averaged first, since they are not independent. Holds one entry a draw.
    """

    def __init__(self) -> None:
        self._sums: dict[int, list[float]] = {}
        self._counts: dict[int, int] = {}

    def add(self, draw: ArrayLike, values: ArrayLike) -> None:
        """Take in the NMSE of some slots.

        draw: (slot,) int, the draw of each slot    values: (slot, ...) linear NMSE
        raises ShapeError when the two do not fit
        """
        draws, rows = np.atleast_1d(np.asarray(draw)), np.atleast_1d(np.asarray(values, np.float64))
        if draws.ndim != 1 or rows.shape[:1] != draws.shape:
            raise ShapeError(f"NmseMean.add: draw is {draws.shape}, values {rows.shape}; wanted (slot,), (slot, ...)")
        for key, row in zip(draws.tolist(), rows.reshape(draws.size, math.prod(rows.shape[1:])).tolist(), strict=True):
            self._put(key, row, len(row))

    def merge(self, other: "NmseMean") -> None:
        """Take in everything that `other` has."""
        for key, parts in other._sums.items():
            self._put(key, parts, other._counts[key])

    def _put(self, key: int, terms: list[float], count: int) -> None:
        parts = self._sums.setdefault(key, [])
        for term in terms:
            _grow(parts, term)
        self._counts[key] = self._counts.get(key, 0) + count

    def result(self) -> dict[str, Any]:
        """Return what is known so far.

        returns nmse_db: mean over draws [dB]
            ci95_db: [low, high] of that mean, a t interval on the linear scale [dB]; None with fewer than two draws
            draws: their number
            A figure that is not finite (no draws, or the lower end not above zero) is None.
        """
        means = [math.fsum(parts) / self._counts[key] for key, parts in self._sums.items()]
        draws = len(means)
        mean = math.fsum(means) / draws if draws else math.nan
        interval = None
        if draws > 1:
            spread = math.sqrt(math.fsum((x - mean) ** 2 for x in means) / (draws - 1) / draws)
            half = float(stdtrit(draws - 1, 0.975)) * spread
            interval = [_decibels(mean - half), _decibels(mean + half)]
        return {"nmse_db": _decibels(mean), "ci95_db": interval, "draws": draws}

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain lists of numbers."""
        return {
            "draw": list(self._sums),
            "count": [self._counts[key] for key in self._sums],
            "sum": [list(parts) for parts in self._sums.values()],
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "NmseMean":
        """Return the accumulator that `snapshot` was taken from."""
        made = cls()
        for key, count, parts in zip(state["draw"], state["count"], state["sum"], strict=True):
            made._sums[int(key)], made._counts[int(key)] = list(parts), int(count)
        return made


def _grow(parts: list[float], term: float) -> None:
    """Add to a sum that is held exactly, as non-overlapping floats (Shewchuk 1997)."""
    kept = 0
    for part in parts:
        large, small = (term, part) if abs(term) >= abs(part) else (part, term)
        term = large + small
        rest = small - (term - large)
        if rest:
            parts[kept] = rest
            kept += 1
    parts[kept:] = [term]


def _decibels(value: float) -> float | None:
    return 10 * math.log10(value) if 0 < value < math.inf else None
