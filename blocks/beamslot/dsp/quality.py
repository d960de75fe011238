"""How good estimates are: figures over independent draws, whether the stated error holds, what is left in residuals.

| symbol | name | meaning |
|---|---|---|
| ||e||^2 / ||h||^2 | nmse | of a slot, e = h_hat - h |
| N_r error_var / ||h||^2 | stated | what the estimator says that the nmse is |
| r = y - F_a h_hat | residual | what the estimate leaves of the observation |
| R, K | entries, paths | observations of a slot, paths found; 4 K real unknowns were fitted |
| rho | lag | correlation of neighbours in r, along the columns or along the chains of a column |

Slots of a draw are not independent of each other, so a figure is averaged over the slots of a draw first; draws are the
sample from which intervals are made.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtr, chdtri, ndtri, stdtrit

from beamslot.dsp.combine import combine
from beamslot.errors import ShapeError
from beamslot.frame import Geometry

Real = NDArray[np.float64]

LEVELS = (0.5, 0.9, 0.95)
"""Probabilities of the intervals whose coverage is counted."""

UNKNOWNS = 4
"""Real unknowns of a path: u, v, and both parts of its gain."""

WHITE = 0.95
"""A residual is called white within this probability of its portmanteau statistic."""

_DECIBEL = 10 / math.log(10)
_Z95 = float(ndtri(0.975))
_LEAST = 1e-30


class Moments(NamedTuple):
    """What is known of some figures from `draws` draws: their means (k,), and sums of products of deviations (k, k)."""

    draws: int
    mean: Real
    scatter: Real


class DrawMoments:
    """Running means over independent draws of some figures of each slot, and how they vary and covary.

    Slots of one draw are averaged first. Draws rise: the first slot of a later draw closes the one before, of which
    only its share is kept, so the state does not grow. Slots of a draw that was closed are left out and counted. The
    figures are the same to the last bit however the slots are split, as slots come in order.

    figures: how many there are
    source: Welford, Technometrics 4(3), 1962
    """

    def __init__(self, figures: int) -> None:
        self.left_out = self.slots = 0
        self._draw: int | None = None
        self._sum: Real = np.zeros(figures)
        self._count = 0
        self._closed, self._total = Moments(0, np.zeros(figures), np.zeros((figures, figures))), np.zeros(figures)

    def add(self, draw: int, values: Real | Sequence[float]) -> None:
        """Take in the figures of a slot, (k,), all finite."""
        if self._draw is not None and draw < self._draw:
            self.left_out += 1
            return
        if draw != self._draw:
            self._close()
            self._draw, self._sum, self._count = draw, np.zeros(self._sum.shape), 0
        self._sum = self._sum + np.asarray(values)
        self._count += 1
        self.slots += 1

    def _close(self) -> None:
        if self._draw is not None:
            self._closed, self._total = self.moments(), self._total + self._sum / self._count

    def moments(self) -> Moments:
        """Return what is known so far, the open draw with the others."""
        if self._draw is None:
            return self._closed
        draws, mean, scatter = self._closed
        newest: Real = np.asarray(self._sum / self._count, np.float64)
        away: Real = newest - mean
        together: Real = scatter + draws / (draws + 1) * away[:, None] * away
        average: Real = (self._total + newest) / (draws + 1)
        return Moments(draws + 1, average, together)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state."""
        return {
            "left_out": self.left_out,
            "slots": self.slots,
            "draw": self._draw,
            "sum": self._sum,
            "count": self._count,
            "draws": self._closed.draws,
            "total": self._total,
            "mean": self._closed.mean,
            "scatter": self._closed.scatter,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "DrawMoments":
        """Return the moments that `snapshot` was taken from."""
        made = cls(len(state["sum"]))
        made.left_out, made.slots = state["left_out"], state["slots"]
        made._draw, made._sum, made._count = state["draw"], np.array(state["sum"]), state["count"]
        made._total = np.array(state["total"])
        made._closed = Moments(state["draws"], np.array(state["mean"]), np.array(state["scatter"]))
        return made


def mean_db(known: Moments, figure: int) -> tuple[float | None, list[float | None] | None]:
    """Return the mean of a figure and its 95 % interval, a t interval on the linear scale, both in dB.

    None where there is nothing, or it is not above zero; no interval from fewer than two draws
    """
    value, interval = mean_of(known, figure)
    return _decibels(value or 0.0), None if interval is None else [_decibels(end) for end in interval]


def ratio_db(known: Moments, top: int, bottom: int) -> tuple[float | None, list[float] | None]:
    """Return the mean of a figure over the mean of another on the same draws, and its 95 % interval, both in dB.

    None where a mean is not above zero; no interval from fewer than two draws
    source: the ratio estimator, its variance by linearisation; Cochran, Sampling Techniques, 1977, eq. (6.13)
    """
    draws, mean, scatter = known
    above, below = float(mean[top]), float(mean[bottom])
    if not (draws and above > 0 and below > 0):
        return None, None
    ratio = _DECIBEL * (math.log(above) - math.log(below))
    if draws < 2:
        return ratio, None
    spread = scatter[top, top] / above**2 - 2 * scatter[top, bottom] / (above * below)
    spread = max(float(spread + scatter[bottom, bottom] / below**2), 0.0)
    half = _DECIBEL * float(stdtrit(draws - 1, 0.975)) * math.sqrt(spread / (draws - 1) / draws)
    return ratio, [ratio - half, ratio + half]


def mean_of(known: Moments, figure: int) -> tuple[float | None, list[float] | None]:
    """Return the mean of a figure and its 95 % t interval; no interval from fewer than two draws."""
    draws, mean, scatter = known
    if not draws:
        return None, None
    value = float(mean[figure])
    if draws < 2:
        return value, None
    half = float(stdtrit(draws - 1, 0.975)) * math.sqrt(scatter[figure, figure] / (draws - 1) / draws)
    return value, [value - half, value + half]


def share_of(known: Moments, figure: int) -> tuple[float | None, list[float] | None]:
    """Return the mean of a figure between 0 and 1, a share, and its 95 % interval.

    Each draw counts as one trial, however many slots it has: that is the widest that the interval can be.
    source: Wilson, JASA 22, 1927
    """
    draws = known.draws
    if not draws:
        return None, None
    share = float(known.mean[figure])
    middle = share + _Z95**2 / (2 * draws)
    half = _Z95 * math.sqrt(max(share * (1 - share), 0.0) / draws + (_Z95 / (2 * draws)) ** 2)
    scale = 1 + _Z95**2 / draws
    return share, [max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)]


def _decibels(value: float) -> float | None:
    return _DECIBEL * math.log(value) if 0 < value < math.inf else None


def energy(field: NDArray[Any]) -> Real:
    """Return the sum of |x|^2 over the last two axes, summed in double precision: (..., y, z) -> (...)."""
    flat = np.ascontiguousarray(field).reshape(*field.shape[:-2], field.shape[-2] * field.shape[-1])
    parts = flat.view(np.real(flat).dtype).astype(np.float64)
    return np.square(parts, out=parts).sum(-1)  # an einsum's last bit depends on how many slots there are


def covered(error: ArrayLike, stated: ArrayLike, paths: ArrayLike, unknowns: float = UNKNOWNS) -> NDArray[np.bool_]:
    """Return whether an error lies within the intervals of `LEVELS` that its stated mean implies.

    An error that is Gaussian, and as large in each of the 4 K real unknowns of K paths, has 4 K ||e||^2 / stated
    distributed as chi-square with 4 K degrees of freedom; intervals leave out as much below as above. No path counts as
    one. Where some unknowns weigh more than others, errors scatter more widely, and less than the level is covered by
    an honest estimator too.

    error, stated: (...) ||e||^2 and its stated mean, in one unit    paths: (...) int, paths found
    unknowns: real ones of a path
    returns (..., level) bool
    """
    freedom = unknowns * np.maximum(np.asarray(paths), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = chdtr(freedom, freedom * np.asarray(error, np.float64) / np.asarray(stated, np.float64))
    return np.abs(2 * below - 1)[..., None] <= np.array(LEVELS)


def strongest(
    truth: Mapping[str, NDArray[Any]], estimate: Mapping[str, NDArray[Any]], geometry: Geometry
) -> tuple[NDArray[np.bool_], Real]:
    """Return whether the strongest path was found, and the squared angle between it and the one found nearest.

    It is found where a path of the estimate is less than half a resolution cell off in u and, but for a line, in v.

    truth, estimate: gain, u, v, mask, each (..., path)    geometry: the array, whose cells are 1 / (n spacing)
    returns found: (...) bool, and (...) [rad^2], 0 where it was not found
    """
    shape = truth["mask"].shape[:-1]
    mask, gain, u, v = (truth[name].reshape(-1, truth[name].shape[-1]) for name in ("mask", "gain", "u", "v"))
    mask_hat, u_hat, v_hat = (estimate[name].reshape(len(mask), -1) for name in ("mask", "u", "v"))
    slot, power = np.arange(len(mask)), np.abs(gain) * mask
    which = power.argmax(-1)
    u, v, power = (array[slot, which].astype(np.float64) for array in (u, v, power))
    off_u, off_v = u_hat - u[:, None], v_hat - v[:, None]
    cells = np.maximum(np.abs(off_u) * (geometry.n_y * geometry.spacing_y), np.abs(off_v) * _height(geometry))
    cells[~mask_hat] = np.inf
    nearest = cells.argmin(-1)
    found = (cells[slot, nearest] < 0.5) & (power > 0)
    off_u, off_v = off_u[slot, nearest], off_v[slot, nearest]
    ahead, ahead_hat = (np.sqrt(np.maximum(1 - a * a - b * b, 0)) for a, b in ((u, v), (u + off_u, v + off_v)))
    chord = np.sqrt(off_u**2 + off_v**2 + (ahead_hat - ahead) ** 2)
    angle = np.where(found, 2 * np.arcsin(np.minimum(chord / 2, 1)), 0)
    return found.reshape(shape), (angle**2).reshape(shape)


def _height(geometry: Geometry) -> float:
    return geometry.n_z * geometry.spacing_z if geometry.n_z > 1 else 0.0  # a line does not see v


class Residual(NamedTuple):
    """What is left of the observation of each of B slots.

    energy: (B,) ||r||^2 [W]    lags: (B, lag) complex, rho of neighbouring columns and of neighbouring chains
    portmanteau: (B,) 2 sum_l N_l |rho_l|^2, chi-square with two degrees of freedom a lag where r is white
    """

    energy: Real
    lags: NDArray[np.complex128]
    portmanteau: Real


class Residuals:
    """Residuals r = y - F_a h_hat of a front end, each entry brought to the noise of a chain of m unit weights.

    weights: (y, chain, m) of F_a. Chains without any weight are left out.
    entries: observations of a slot that are left    antennas: m
    source: the portmanteau statistic of Box and Pierce, JASA 65, 1970, for two axes and the first lag of each
    """

    def __init__(self, weights: NDArray[Any]) -> None:
        power = np.sum(np.abs(weights) ** 2, -1)
        alive = power > 0
        scale = np.sqrt(np.divide(weights.shape[-1], power, out=np.zeros_like(power), where=alive))
        self._weights, self._scale = weights, None if np.allclose(scale, 1, atol=1e-6) else scale.astype(np.float32)
        self.entries, self.antennas = int(alive.sum()), weights.shape[-1]
        self._pairs = np.array([np.sum(alive[1:] & alive[:-1]), np.sum(alive[:, 1:] & alive[:, :-1])], np.float64)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the portmanteau statistic: two for each lag that there is."""
        return 2 * int(np.sum(self._pairs > 0))

    @property
    def limit(self) -> float:
        """What the portmanteau statistic of a white residual does not exceed, with probability `WHITE`."""
        return float(chdtri(self.freedom, 1 - WHITE)) if self.freedom else math.inf

    def left(self, observation: NDArray[Any], channel: NDArray[Any]) -> NDArray[np.complexfloating[Any, Any]]:
        """Return r.

        observation: (B, y, chain) complex [sqrt(W)]    channel: (B, y, z) complex [sqrt(W)]
        returns (B, y, chain)    raises ShapeError where they do not fit
        """
        if observation.shape[-2:] != self._weights.shape[:2]:
            wanted = ", ".join(map(str, self._weights.shape[:2]))
            raise ShapeError(f"residual: observation is {observation.shape}, wanted (..., y, chain) = (..., {wanted})")
        # One slot a call: in batches the last bit would depend on how the slots are framed.
        slots = zip(observation, channel, strict=True)
        left = np.stack([one - combine(field, self._weights) for one, field in slots])
        return left if self._scale is None else left * self._scale

    def judge(self, observation: NDArray[Any], channel: NDArray[Any]) -> Residual:
        """Return energy and colour of r; arguments as those of `left`."""
        left = self.left(observation, channel)
        power, left = energy(left), left.astype(np.complex128)
        products = np.stack(
            [
                np.einsum("byc,byc->b", left[:, 1:], left[:, :-1].conj()),
                np.einsum("byc,byc->b", left[:, :, 1:], left[:, :, :-1].conj()),
            ],
            -1,
        )
        scale = self._pairs * power[:, None] / self.entries
        lags = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
        return Residual(power, lags, 2 * (np.abs(lags) ** 2 * self._pairs).sum(-1))


def within(power: ArrayLike, noise_var: ArrayLike, dimensions: ArrayLike, level: float = 0.95) -> NDArray[np.bool_]:
    """Return whether the energy of a residual lies within the interval that noise of a known variance implies.

    power: (...) ||r||^2    noise_var: (...) of an entry    dimensions: (...) complex ones of r, R - 2 K
    source: 2 ||r||^2 / sigma_w^2 is chi-square with 2 (R - 2 K) degrees of freedom
    """
    freedom = 2 * np.asarray(dimensions, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = chdtr(freedom, 2 * np.asarray(power, np.float64) / np.asarray(noise_var, np.float64))
    return np.abs(2 * below - 1) <= level


def names_of(streams: Sequence[str]) -> dict[str, str]:
    """Return a name for each stream: its block's, or "block.port" where a block has several."""
    blocks = [stream.split(".")[0] for stream in streams]
    return {s: b if blocks.count(b) == 1 else s for s, b in zip(streams, blocks, strict=True)}


class Pairs:
    """What several estimators did on the same slots, two and two: their differences, as slots come, in any turn.

    A figure of a slot waits until all others have passed that slot, or `hold` newer ones wait with it. Each pair is
    the same to the last bit in whatever turn the estimators come.

    names: of the estimators    hold: most slots that wait for one estimator
    """

    def __init__(self, names: Sequence[str], hold: int = 16384) -> None:
        self.names, self._hold = list(names), hold
        self.slots = dict.fromkeys(names, 0)
        self._newest: dict[str, int] = dict.fromkeys(names, -1)
        self._held = {name: OrderedDict[int, tuple[int, float]]() for name in names}
        self.moments = {(a, b): DrawMoments(4) for i, a in enumerate(self.names) for b in self.names[i + 1 :]}

    def add(self, name: str, slot: int, draw: int, value: float) -> None:
        """Take in a figure, at least 0, of one estimator on one slot; slots of an estimator rise."""
        self.slots[name] += 1
        self._newest[name] = slot
        for other in self.names:
            found = self._held[other].get(slot)
            if found is not None and other != name:
                self._pair(name, value, other, found[1], draw)
        held = self._held[name]
        held[slot] = draw, value
        if len(held) > self._hold:
            held.popitem(last=False)
        self._let_go(name)

    def _pair(self, name: str, value: float, other: str, his: float, draw: int) -> None:
        if (name, other) not in self.moments:
            name, value, other, his = other, his, name, value
        difference = _DECIBEL * (math.log(max(value, _LEAST)) - math.log(max(his, _LEAST)))
        better = 0.5 * ((value < his) + (value <= his))
        self.moments[name, other].add(draw, (value, his, difference, better))

    def _let_go(self, name: str) -> None:
        """Let go of what all others have passed: of the slots of the others that waited for this one, and its own."""
        for other in self.names:
            held = self._held[other]
            passed = min((at for one, at in self._newest.items() if one != other), default=self._newest[name])
            while held and next(iter(held)) <= passed:
                held.popitem(last=False)

    def result(self, reference: str = "") -> dict[str, dict[str, Any]]:
        """Return each pair as "one - other", where both had slots.

        reference: the other of all pairs; empty: all pairs, the other one being named before or after as in `names`
        returns estimate, reference: their names
            difference_db, ci95_db: mean of the one over the mean of the other, below 0 where the one is better
            by_draw_db, by_draw_ci95_db: mean over draws of the ratio in dB, which rare large errors do not govern
            better_share, better_ci95: share of draws with the lesser error; ties count half
            draws, slots
        """
        told: dict[str, dict[str, Any]] = {}
        for (one, other), moments in self.moments.items():
            if moments.slots and reference in ("", one, other):
                turned = reference == one
                names = (other, one) if turned else (one, other)
                told[" - ".join(names)] = self._told(names, moments, turned)
        return told

    def _told(self, names: tuple[str, str], moments: DrawMoments, turned: bool) -> dict[str, Any]:
        (one, other), known = names, moments.moments()
        if turned:
            known = _turned(known)
        difference, interval = ratio_db(known, 0, 1)
        by_draw, by_draw_interval = mean_of(known, 2)
        better, better_interval = share_of(known, 3)
        told = {
            "estimate": one,
            "reference": other,
            "difference_db": difference,
            "ci95_db": interval,
            "by_draw_db": by_draw,
            "by_draw_ci95_db": by_draw_interval,
            "better_share": better,
            "better_ci95": better_interval,
            "draws": known.draws,
            "slots": moments.slots,
        }
        return told | ({"draw_returned": moments.left_out} if moments.left_out else {})

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state; what waits is the only part that varies in size."""
        return {
            "slots": dict(self.slots),
            "newest": dict(self._newest),
            "held": {name: _columns(held) for name, held in self._held.items()},
            "pairs": [moments.snapshot() for moments in self.moments.values()],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], hold: int = 16384) -> "Pairs":
        """Return the pairs that `snapshot` was taken from."""
        made = cls(list(state["slots"]), hold)
        made.slots, made._newest = dict(state["slots"]), dict(state["newest"])
        made._held = {name: _held(columns) for name, columns in state["held"].items()}
        kept = [DrawMoments.restore(one) for one in state["pairs"]]
        made.moments = dict(zip(made.moments, kept, strict=True))
        return made


def _turned(known: Moments) -> Moments:
    """Return the moments of a pair named the other way round."""
    order, sign = [1, 0, 2, 3], np.array([1.0, 1.0, -1.0, -1.0])
    mean = known.mean[order] * sign + np.array([0.0, 0.0, 0.0, 1.0])
    return Moments(known.draws, mean, known.scatter[np.ix_(order, order)] * sign[:, None] * sign)


def _columns(held: Mapping[int, tuple[int, float]]) -> dict[str, NDArray[Any]]:
    rows = [(slot, draw, value) for slot, (draw, value) in held.items()]
    slot, draw, value = zip(*rows, strict=True) if rows else ((), (), ())
    return {"slot": np.array(slot, np.int64), "draw": np.array(draw, np.int64), "value": np.array(value, np.float64)}


def _held(columns: Mapping[str, NDArray[Any]]) -> OrderedDict[int, tuple[int, float]]:
    rows = zip(*(columns[name].tolist() for name in ("slot", "draw", "value")), strict=True)
    return OrderedDict((slot, (draw, value)) for slot, draw, value in rows)
