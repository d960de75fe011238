"""Figures of merit over independent channel draws.

| symbol | name | meaning |
|---|---|---|
| NMSE | nmse, NmseMean | mean over draws of ||h_hat - h||^2 / ||h||^2 on the full N_r-dimensional channel |

source: paper 004 names the NMSE without defining it. Decision: a ratio per draw, their mean, then decibels
"""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
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


class ExactSum:
    """A sum of floats without rounding: the same to the last bit in whatever order its terms come.

    parts: non-overlapping floats that add up to it, smallest first
    source: Shewchuk 1997, Grow-Expansion with zero elimination
    """

    def __init__(self, parts: Iterable[float] = ()) -> None:
        self.parts = list(parts)

    def add(self, term: float) -> None:
        """Add a term; one that is not finite makes the sum NaN or infinite for good."""
        parts, kept = self.parts, 0
        for part in parts:
            large, small = (term, part) if abs(term) >= abs(part) else (part, term)
            term = large + small
            rest = small - (term - large)
            if rest:
                parts[kept] = rest
                kept += 1
        parts[kept:] = [term]

    def __float__(self) -> float:
        return math.fsum(self.parts)

    def fraction(self) -> Fraction:
        """Return the sum itself; it must be finite."""
        return sum(map(Fraction, self.parts), Fraction())


class NmseMean:
    """Running mean of the NMSE over independent draws, the same to the last bit however the slots are split.

    Slots (and users) of one draw are averaged first, since they are not independent. Draws rise: the first slot of a
    later draw closes the one before, of which only its share in the sums over draws is kept, so the state does not
    grow. Slots of a draw that was closed are left out of the mean, since its average cannot be opened again and
    a second one would not be independent of it; they are counted.
    """

    def __init__(self) -> None:
        self._draw: int | None = None
        self._sum, self._count = ExactSum(), 0
        self._means, self._squares, self._closed = ExactSum(), ExactSum(), 0
        self._left_out = 0

    def add(self, draw: ArrayLike, values: ArrayLike) -> None:
        """Take in the NMSE of some slots.

        draw: (slot,) int, the draw of each slot    values: (slot, ...) linear NMSE
        raises ShapeError when the two do not fit
        """
        draws, rows = np.atleast_1d(np.asarray(draw)), np.atleast_1d(np.asarray(values, np.float64))
        if draws.ndim != 1 or rows.shape[:1] != draws.shape:
            raise ShapeError(f"NmseMean.add: draw is {draws.shape}, values {rows.shape}; wanted (slot,), (slot, ...)")
        for key, row in zip(draws.tolist(), rows.reshape(draws.size, math.prod(rows.shape[1:])).tolist(), strict=True):
            self._put(key, row)

    def _put(self, draw: int, values: list[float]) -> None:
        if self._draw is not None and draw < self._draw:
            self._left_out += 1
            return
        if draw != self._draw:
            self._means, self._squares, self._closed = self._over_draws()
            self._draw, self._sum, self._count = draw, ExactSum(), 0
        for value in values:
            self._sum.add(value)
        self._count += len(values)

    def _over_draws(self) -> tuple[ExactSum, ExactSum, int]:
        """Return the sums over all draws, the open one with them, of the mean and of its square, and their number."""
        means, squares = ExactSum(self._means.parts), ExactSum(self._squares.parts)
        if self._draw is None:
            return means, squares, 0
        mean = float(self._sum) / self._count
        means.add(mean)
        for term in _square(mean):
            squares.add(term)
        return means, squares, self._closed + 1

    def result(self) -> dict[str, Any]:
        """Return what is known so far.

        returns nmse_db: mean over draws [dB]
            ci95_db: [low, high] of that mean, a t interval on the linear scale [dB]; None with fewer than two draws
            draws: their number
            draw_returned: slots left out since their draw was closed; only where there are any
            A figure that is not finite (no draws, or the lower end not above zero) is None.
        """
        means, squares, draws = self._over_draws()
        mean = float(means) / draws if draws else math.nan
        interval = None
        if draws > 1 and math.isfinite(float(squares)):
            # Nothing is rounded before the difference is taken; only squares below the least float could be missing.
            scatter = max(squares.fraction() - means.fraction() ** 2 / draws, Fraction())
            half = float(stdtrit(draws - 1, 0.975)) * math.sqrt(scatter / (draws - 1) / draws)
            interval = [_decibels(mean - half), _decibels(mean + half)]
        left_out = {"draw_returned": self._left_out} if self._left_out else {}
        return {"nmse_db": _decibels(mean), "ci95_db": interval, "draws": draws} | left_out

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain numbers and short lists of them."""
        return {
            "draw": self._draw,
            "sum": list(self._sum.parts),
            "count": self._count,
            "means": list(self._means.parts),
            "squares": list(self._squares.parts),
            "closed": self._closed,
            "left_out": self._left_out,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "NmseMean":
        """Return the accumulator that `snapshot` was taken from."""
        made = cls()
        made._draw, made._sum, made._count = state["draw"], ExactSum(state["sum"]), state["count"]
        made._means, made._squares = ExactSum(state["means"]), ExactSum(state["squares"])
        made._closed, made._left_out = state["closed"], state["left_out"]
        return made


def _square(value: float) -> tuple[float, float]:
    """Return value * value without rounding, as two floats (Dekker 1971)."""
    wide = 134217729.0 * value  # 2^27 + 1: halves of the significand, whose products are exact
    high = wide - (wide - value)
    low = value - high
    square = value * value
    return square, ((high * high - square) + 2 * high * low) + low * low


def _decibels(value: float) -> float | None:
    return 10 * math.log10(value) if 0 < value < math.inf else None
