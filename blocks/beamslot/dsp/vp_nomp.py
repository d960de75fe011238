"""Newtonised matching pursuit by variable projection: few paths near the bound, without a dictionary, within a slot.

| symbol | name | meaning |
|---|---|---|
| y | rows | observation of a slot in the row order of `sensing`, scaled to unit mean power |
| xi_k, X | atoms | what a path of unit gain leaves in y, see `sensing`; slopes in u and v are a resolution cell |
| a_k | gain | gains by least squares for given directions, (X^H X)^-1 X^H y, antennas counted from the middle |
| C | spread | covariance of the directions, (2 H / sigma_w^2)^-1, H the Gauss-Newton matrix with the gains eliminated |
| sigma_w^2 | noise_var | ||r||^2 / (N_RF - 2 K) per complex entry, always learned |
| pi_k | inclusion | posterior probability that a path exists |

A round looks for peaks of |xi^H r|^2 / ||xi||^2, takes a few into the model, and moves all directions by one
Gauss-Newton step of the sum of squares in which the gains are eliminated (variable projection). When no peak stands out
of the noise any more, the directions settle, weak paths are pruned, and every gain is weighted: by the probability that
the path exists, and by shrinking over a range of prior powers.

The probability compares "a path of some power p, anywhere in the search region" with "noise alone": log-uniform p,
directions by Laplace's method, expected_paths / cells the prior of a path in a resolution cell. The last two factors
are what a search pays for its freedom; without them peaks of noise look like paths.

Kin: NOMP (Mamandipoor, Ramasamy, Madhow, IEEE TSP 64(19), 2016) has the detection and Newton steps, VALSE (Badiu,
Hansen, Fleury, IEEE TSP 65(20), 2017) the weights, variable projection is Golub and Pereyra's (SIAM J. Numer. Anal.
10(2), 1973). Groups of columns need no stage of their own: an atom is separable within each.

This is the reference, and what runs where nothing could be compiled; `kernel/vp_nomp.cpp` is the same, made fast.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from beamslot.dsp import kernel
from beamslot.dsp.combine import distinct
from beamslot.dsp.estimate import Budget, Estimate, Slot, blank, collect, refuse, shaped, slots_of, spoilt
from beamslot.dsp.prediction import aperture_gram, power_below
from beamslot.dsp.sensing import FAINTEST, Complex, Real, Sensing, joint_sensing, normalised
from beamslot.frame import Geometry, Operator

MOST_PATHS = 64

PEAKS_A_ROUND = 4
NEXT_PEAK = 0.5
"""Others enter in the round of the largest peak if they have so large a share of it."""
APART = 3
"""Peaks of one round are more than so many grid points apart, in u or in v."""
LONGEST_STEP = 0.25
DAMPING = 1e-3
MERGE = 0.15
"""Paths nearer than this in u and in v are one [cells]."""
TWIN, NEIGHBOUR = 0.3, 0.8
"""A new path is left out when its squared correlation with another new one, or with an old one, is above this."""
SILENCE = 1e-10
"""The noise is taken for at least this share of the mean power: less is rounding."""
SETTLED = 0.02
"""Directions have settled when none moves further [cells]."""
POWERS = 12
"""Prior powers that are compared, from a tenth of the least variance of a gain to twice the largest power."""
FREEDOM = 2.0
"""Complex unknowns of a path, its gain and its directions: so much larger than that of the gain is the variance
that a path adds to the channel."""
CERTAINTY = 2.0
_RANK = 1e-9
PATH_POWER = 0.008
"""Scale of the powers of undetected paths, relative to all that is observed: density b / (b + p)^2."""


class Settings(NamedTuple):
    """What bounds the search.

    max_paths, max_rounds: at most so many    final_rounds: Gauss-Newton steps at most once no path enters any more
    threshold: |xi^H r|^2 / ||xi||^2 of a peak that enters, and |a|^2 / var of a path that stays, over sigma_w^2
    expected_paths: prior mean of the number of paths
    hidden: power, over that of a peak which enters, below which half of all paths stay hidden
    """

    max_paths: int = 24
    max_rounds: int = 20
    final_rounds: int = 5
    threshold: float = 9.0
    expected_paths: float = 10.0
    hidden: float = 1.15


class Prior(NamedTuple):
    """What is known of the first paths before the slot: nothing of those found in it.

    u, v: (K,) expected directions    precision_u, precision_v: (K,) of them, 1 / variance [1 / cell^2]
    power: (K,) prior mean of |a|^2, relative to the mean power of an observation
    log_odds: (K,) that they exist    origin: (K,) which they are
    """

    u: Real
    v: Real
    precision_u: Real
    precision_v: Real
    power: Real
    log_odds: Real
    origin: NDArray[np.int64]

    @classmethod
    def none(cls) -> "Prior":
        """Return the prior of a slot that stands alone."""
        none = np.zeros(0)
        return cls(none, none, none, none, none, none, none.astype(np.int64))

    def take(self, keep: NDArray[np.bool_]) -> "Prior":
        """Return the prior of some of the paths; `keep` may be longer, for paths without one."""
        kept = keep[: len(self.u)]
        return Prior._make(array[kept] for array in self)


class Found(NamedTuple):
    """What a slot holds, antennas counted from the middle, gains and variances relative to the scale of `rows`.

    u, v, gain: (K,) least squares    weight: (K,) what the gain is to be multiplied with
    inclusion: (K,) pi    variance: (K,) of the gains    spread: (2 K,) variances of u, then of v [cells^2]
    origin: (K,) which of the prior, -1 for paths that are new
    noise_var, error_var    rounds: iterations    settled: whether the noise was reached and the directions settled
    """

    u: Real
    v: Real
    gain: Complex
    weight: Real
    inclusion: Real
    variance: Real
    spread: Real
    origin: NDArray[np.int64]
    noise_var: float
    error_var: float
    rounds: int
    settled: bool


class _Model(NamedTuple):
    """Paths fitted to y: gram and matched are those of atoms, slopes in u, slopes in v (3 K)."""

    u: Real
    v: Real
    atoms: Complex
    gram: Complex
    matched: Complex
    inverse: Complex
    gain: Complex
    residual: Complex

    def noise_var(self, rows: float) -> float:
        energy = float(np.vdot(self.residual, self.residual).real)
        return max(energy / max(rows - 2 * len(self.u), 1.0), SILENCE)


def search(
    y: Complex, sensing: Sensing, settings: Settings, prior: Prior | None = None, budget: Budget | None = None
) -> Found:
    """Return the paths that one observation holds.

    y: (R,) complex128 of unit mean power, rows as `Sensing.gather` orders them
    prior: of paths to begin with    budget: asked once a round, says whether time is up
    """
    prior = prior or Prior.none()
    model = _fit(sensing, y, prior.u, prior.v, prior)
    rounds, reached, late = 0, False, False
    if len(prior.u):
        model = _settle(sensing, y, model, prior, 1)[0]
    while rounds < settings.max_rounds and not reached and not late:
        room = settings.max_paths - len(model.u)
        peaks = find_peaks(sensing, model.residual, len(model.u), settings.threshold)
        reached = not len(peaks)
        if reached or not room:
            break
        rounds += 1
        old = len(model.u)
        u, v = np.concatenate([model.u, peaks[:room, 0]]), np.concatenate([model.v, peaks[:room, 1]])
        model, prior = _tell_apart(sensing, y, _fit(sensing, y, u, v, prior), prior, old)
        model, _ = _settle(sensing, y, model, prior, 1)
        model, prior = _merge(sensing, y, model, prior)
        late = budget is not None and budget()
    steps = 1 if late else settings.final_rounds
    model, settled = _settle(sensing, y, model, prior, steps)
    model, prior = _prune(sensing, y, *_merge(sensing, y, model, prior), settings.threshold)
    model = _fit(sensing, y, model.u, model.v, prior, model.noise_var(sensing.rows[0]))
    return _weigh(sensing, model, prior, settings, rounds, reached and settled and not late)


def find_peaks(sensing: Sensing, residual: Complex, paths: int, threshold: float) -> Real:
    """Return where |xi^H r|^2 / ||xi||^2 peaks out of the noise, between grid points by a parabola.

    The noise is that of the residual without the peak itself. Where the beams hardly look, a path had to be strong to
    be seen: a point pays 2 sigma^2 ln(largest energy of an atom / its own), so that a path is not taken for its alias.

    residual: (R,)    paths: how many are in the model
    returns (P, 2), u and v of the largest and of others that are nearly as large
    """
    energy = float(np.vdot(residual, residual).real)
    rows_left = max(float(sensing.rows[0]) - 2 * paths, 1.0)
    gain = sensing.energy[0][:, None]
    score = np.abs(sensing.correlate(residual[None])[0]) ** 2 * sensing.visible[0] / gain
    score -= 2 * energy / rows_left * np.log(gain.max() / gain)
    rows, columns = score.shape
    masked, peaks, first, least = score.copy(), [], 0.0, 0.0
    for _ in range(PEAKS_A_ROUND):
        row, column = divmod(int(masked.argmax()), columns)
        peak = float(masked[row, column])
        if not peaks:
            first = peak
            least = threshold * max((energy - peak) / max(rows_left - 2, 1.0), SILENCE)
        if peak <= max(least, NEXT_PEAK * first if peaks else 0.0):
            break
        along_u = _vertex(*score[row, [column - 1, column, (column + 1) % columns]])
        along_v = _vertex(*score[row - 1 : row + 2, column]) if 0 < row < rows - 1 else 0.0
        u = sensing.grid_u[column] + along_u * (sensing.grid_u[1] - sensing.grid_u[0])
        v = sensing.grid_v[0, row] + along_v * (sensing.grid_v[0, -1] - sensing.grid_v[0, 0]) / max(rows - 1, 1)
        peaks.append((np.clip(u, -1, 1), v))
        away = (np.arange(columns) - column + columns // 2) % columns - columns // 2
        masked[np.ix_(np.abs(np.arange(rows) - row) <= APART, np.abs(away) <= APART)] = -np.inf
    return np.array(peaks).reshape(-1, 2)


def _vertex(before: float, at: float, after: float) -> float:
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def _fit(sensing: Sensing, y: Complex, u: Real, v: Real, prior: Prior, noise_var: float = 0.0) -> _Model:
    """Fit the gains of paths; where the noise is told, by ridge regression with their prior powers.

    The power of a new path is at most what explains all of y alone: that matters where beams cannot tell paths apart.
    """
    paths = len(u)
    atoms, slopes = sensing.slopes(u[None], v[None])
    both = np.concatenate([atoms[0], slopes[0] * np.repeat(sensing.cell, paths)[:, None]])
    gram, matched = both.conj() @ both.T, both.conj() @ y
    power = np.full(paths, sensing.rows[0] / sensing.energy[0].mean())
    power[: len(prior.power)] = prior.power
    ridge = noise_var / power
    own = gram[:paths, :paths]
    floor = _RANK * max(float(np.trace(own).real) / max(paths, 1), 1e-30)
    inverse: Any = np.linalg.inv(own + np.diag(ridge + floor))
    gain = inverse @ matched[:paths]
    return _Model(u, v, atoms[0], gram, matched, inverse, gain, y - gain @ atoms[0])


def direction_curvature(model: _Model) -> tuple[Real, Real]:
    """Return the Gauss-Newton matrix H of ||y - X a||^2 / 2 in the directions, the gains eliminated, and its descent.

    returns (2 K, 2 K) and (2 K,), a resolution cell the unit
    source: Golub and Pereyra 1973, in the form of Kaufman
    """
    paths = len(model.u)
    cross = model.gram[paths:, :paths]
    gain = np.tile(model.gain, 2)
    descent = (gain.conj() * (model.matched[paths:] - cross @ model.gain)).real
    inner = model.gram[paths:, paths:] - cross @ model.inverse @ cross.conj().T
    return (gain.conj()[:, None] * inner * gain).real, descent


def _settle(sensing: Sensing, y: Complex, model: _Model, prior: Prior, steps: int) -> tuple[_Model, bool]:
    """Move all directions by Gauss-Newton steps until they settle; return whether they did."""
    paths, settled = len(model.u), not len(model.u)
    for _ in range(0 if settled else steps):
        noise_var = model.noise_var(sensing.rows[0]) if len(prior.u) else 0.0  # needed by priors only
        curvature, descent = direction_curvature(model)
        pull, weight = _pull(sensing, model, prior, noise_var)
        diagonal = np.diag(curvature)
        damping = DAMPING * diagonal + _RANK * max(float(diagonal.max()), 1e-30)
        step = np.linalg.solve(curvature + np.diag(damping + weight), descent + pull)
        step = np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        u = np.clip(model.u + step[:paths] * sensing.cell[0], -1, 1)
        v = np.clip(model.v + step[paths:] * sensing.cell[1], sensing.low[0], sensing.high[0])
        model = _fit(sensing, y, u, v, prior, noise_var)
        settled = bool(np.abs(step).max() < SETTLED)
        if settled:
            break
    return model, settled


def _pull(sensing: Sensing, model: _Model, prior: Prior, noise_var: float) -> tuple[Real, Real]:
    """Descent and curvature of the prior of the directions, in the units of `direction_curvature`."""
    paths, known = len(model.u), len(prior.u)
    weight, away = np.zeros(2 * paths), np.zeros(2 * paths)
    weight[:known], weight[paths : paths + known] = prior.precision_u, prior.precision_v
    away[:known] = (prior.u - model.u[:known]) / sensing.cell[0]
    away[paths : paths + known] = (prior.v - model.v[:known]) / sensing.cell[1]
    weight *= noise_var / 2
    return weight * away, weight


def _merge(sensing: Sensing, y: Complex, model: _Model, prior: Prior) -> tuple[_Model, Prior]:
    power = np.abs(model.gain) ** 2
    near = np.abs(model.u[:, None] - model.u) < MERGE * sensing.cell[0]
    near &= np.abs(model.v[:, None] - model.v) < MERGE * sensing.cell[1]
    keep = ~np.any(near & (power[:, None] < power), axis=1)
    return _keep(sensing, y, model, prior, keep)


def _tell_apart(sensing: Sensing, y: Complex, model: _Model, prior: Prior, old: int) -> tuple[_Model, Prior]:
    """Leave out new paths that look like another new one, its alias, or like an old one that has not settled yet."""
    paths = len(model.u)
    gram = model.gram[:paths, :paths]
    own = gram.diagonal().real
    alike = np.abs(gram) ** 2 / np.maximum(own[:, None] * own, 1e-30)
    limit = np.where(np.arange(paths) < old, NEIGHBOUR, TWIN)
    earlier = np.arange(paths)[:, None] > np.arange(paths)
    keep = (np.arange(paths) < old) | ~np.any((alike > limit) & earlier, axis=1)
    return _keep(sensing, y, model, prior, keep)


def _keep(sensing: Sensing, y: Complex, model: _Model, prior: Prior, keep: NDArray[np.bool_]) -> tuple[_Model, Prior]:
    if keep.all():
        return model, prior
    prior = prior.take(keep)
    return _fit(sensing, y, model.u[keep], model.v[keep], prior, model.noise_var(sensing.rows[0])), prior


def _prune(sensing: Sensing, y: Complex, model: _Model, prior: Prior, threshold: float) -> tuple[_Model, Prior]:
    """Take the weakest path out, one at a time, until all stand out of the noise; those with a prior stay."""
    while len(model.u):
        strength = np.abs(model.gain) ** 2 / (model.noise_var(sensing.rows[0]) * model.inverse.diagonal().real)
        strength[: len(prior.u)] = np.inf
        if strength.min() >= threshold:
            break
        model, prior = _keep(sensing, y, model, prior, np.arange(len(model.u)) != strength.argmin())
    return model, prior


def _weigh(sensing: Sensing, model: _Model, prior: Prior, settings: Settings, rounds: int, settled: bool) -> Found:
    noise_var = model.noise_var(sensing.rows[0])
    variance = noise_var * model.inverse.diagonal().real
    curvature, _ = direction_curvature(model)
    _, weight = _pull(sensing, model, prior, noise_var)
    spread = noise_var / 2 * np.linalg.inv(curvature + np.diag(weight + _RANK * max(curvature.max(initial=0), 1e-30)))
    inclusion, shrinkage = evidence(np.abs(model.gain) ** 2, variance, occam(curvature, noise_var), sensing, settings)
    known = len(prior.u)
    inclusion[:known] = expit(prior.log_odds + confirmation(model.gain[:known], variance[:known], prior.power))
    shrinkage[:known] = 1.0  # the ridge has shrunk them
    error = found_error(sensing, model, inclusion, shrinkage, noise_var, spread)
    missed = missed_power(sensing, float(inclusion.sum()), noise_var, settings)
    return Found(
        model.u,
        model.v,
        model.gain,
        inclusion * shrinkage,
        inclusion,
        variance,
        spread.diagonal(),
        np.concatenate([prior.origin, np.full(len(model.u) - known, -1)]),
        noise_var,
        error + missed,
        rounds,
        settled,
    )


def occam(curvature: Real, noise_var: float) -> Real:
    """Return the log of the volume of directions that fit as well, of each path, in cells and at most one.

    curvature: (2 K, 2 K)    returns (K,), ln(2 pi sqrt(det C_k)) of the path's own 2 x 2 block of 2 H / sigma_w^2
    source: Laplace's method
    """
    paths = len(curvature) // 2
    own = np.arange(paths)
    det = curvature[own, own] * curvature[paths + own, paths + own] - curvature[own, paths + own] ** 2
    return np.minimum(np.log(np.pi * noise_var) - 0.5 * np.log(np.maximum(det, 1e-30)), 0.0)


def evidence(power: Real, variance: Real, volume: Real, sensing: Sensing, settings: Settings) -> tuple[Real, Real]:
    """Return the posterior probability of each path and by how much its gain shrinks if it exists.

    power: (K,) |a|^2    variance: (K,) of the gain    volume: (K,) of `occam`
    returns inclusion, shrinkage: (K,)
    """
    if not len(power):
        return np.zeros(0), np.zeros(0)
    high = 2 * max(power.max(), variance.max())
    powers = np.geomspace(0.1 * variance.min(), high, POWERS)
    both = variance[:, None] + powers
    fits = np.log(variance[:, None] / both) + power[:, None] * (1 / variance[:, None] - 1 / both)
    best = fits.max(axis=1, keepdims=True)
    share = np.exp(fits - best)
    odds = np.log(settings.expected_paths / sensing.cells[0]) + volume + np.log(share.mean(axis=1)) + best[:, 0]
    shrink = powers / (powers + FREEDOM * variance[:, None])
    return expit(odds), np.sum(share * shrink, axis=1) / share.sum(axis=1)


def confirmation(gain: Complex, variance: Real, power: Real) -> Real:
    """Return the log of how much likelier what was seen is if a path of known power is there.

    gain, variance: (K,) posterior mean and variance of its gain    power: (K,) prior mean of |a|^2
    """
    return np.log(variance / power) + np.abs(gain) ** 2 / variance


def found_error(
    sensing: Sensing, model: _Model, inclusion: Real, shrinkage: Real, noise_var: float, spread: Real
) -> float:
    """Return E ||h_hat - h||^2 / N_r over gains, directions and existence of the paths found.

    inclusion, shrinkage: (K,)    spread: (2 K, 2 K) covariance of the directions [cells^2]
    source: Gaussian posterior about the fit, existence independent by path
    """
    paths = len(model.u)
    if not paths:
        return 0.0
    weight = inclusion * shrinkage
    gram = aperture_gram(sensing, model.u, model.v)
    answer = model.inverse @ (model.gram[paths:, :paths].conj().T * np.tile(model.gain, 2))
    root = inclusion * np.sqrt(shrinkage)
    of_gains = noise_var * root[:, None] * model.inverse * root
    doubt = inclusion * (1 - inclusion) * shrinkage**2 * np.abs(model.gain) ** 2
    np.einsum("kk->k", of_gains)[...] += doubt
    change = np.concatenate([-weight[:, None] * answer, np.diag(np.tile(weight * model.gain, 2))])
    error = np.sum(gram[:paths, :paths] * of_gains.T).real + np.sum((change.conj().T @ gram @ change).real * spread)
    return float(error) / sensing.geometry.antennas


def missed_power(sensing: Sensing, found: float, noise_var: float, settings: Settings) -> float:
    """Return the power per antenna that is expected in paths too weak to enter.

    found: paths found, from which, with the prior mean of their number, follows how many more there are: they are
        Poisson with a Gamma-distributed rate, and a share p / (b + p) of all lies below a power p
    """
    energy = float(sensing.energy[0].mean())
    scale, limit = (
        PATH_POWER * float(sensing.rows[0]) / energy,
        settings.hidden * settings.threshold * noise_var / energy,
    )
    seen = scale / (scale + limit)
    paths = (CERTAINTY + found) / (CERTAINTY / settings.expected_paths + seen)
    return power_below(limit, scale, paths)


class VpNomp:
    """Newtonised matching pursuit by variable projection; the noise variance is learned, whatever the operator says.

    Nothing depends on the scale of the observations or on a phase common to a slot.

    geometry: the array    operator: what compressed the channel; its beams may be any
    max_paths: at most so many    max_rounds: searches at most
    threshold: power over the noise from which a peak is taken for a path, see `Settings`
    expected_paths: prior mean of the number of paths
    guard: how far beyond the interval to search, each side, in v
    variant: which compiled form, see `kernel.load`; None for the fastest that runs here
    raises ShapeError when the operator does not fit the array, BadParam
    source: the module's
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        max_paths: int = 24,
        max_rounds: int = 20,
        threshold: float = 9.0,
        expected_paths: float = 10.0,
        guard: float = 0.1,
        variant: str | None = None,
    ) -> None:
        self.settings = Settings(max_paths, max_rounds, 5, threshold, expected_paths)
        refuse(
            ("vp_nomp.max_paths", max_paths, f"1 .. {MOST_PATHS}", 1 <= max_paths <= MOST_PATHS),
            ("vp_nomp.max_rounds", max_rounds, "at least 1", max_rounds >= 1),
            ("vp_nomp.threshold", threshold, "more than 0", threshold > 0),
            ("vp_nomp.expected_paths", expected_paths, "more than 0", expected_paths > 0),
        )
        self.geometry, self.operator = geometry, operator
        self.sensing = joint_sensing(geometry, operator, guard)
        module = kernel.load(variant)
        self._kernel: Any = None if module is None else compiled(module, self.sensing, operator, self.settings)

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot; slots do not depend on each other.

        observation: (..., y, chain) complex64 [sqrt(W)], y = F_a h + w
        budget: says whether time is up; then a slot comes back with the best so far, not converged
        returns an Estimate, paths sorted by power. error_var is the expectation of the error from gains, directions
            and existence of the paths found, and of the power of those below the threshold, which leans on the prior
            of number and power. A slot that is not finite comes back without paths, noise_var and error_var NaN.
        raises ShapeError when the last two axes are not (y, chain) of the operator
        """
        slots = slots_of("vp_nomp", observation, self.operator.weights.shape[:2])
        batch = observation.shape[:-2]
        if self._kernel is not None:
            return self._compiled(np.ascontiguousarray(slots, np.complex64), batch, budget)
        found = [self._slot(one, budget) for one in slots]
        return collect(found, self.geometry, self.settings.max_paths, batch)

    def _compiled(self, slots: NDArray[np.complex64], batch: tuple[int, ...], budget: Budget | None) -> Estimate:
        made = blank(len(slots), self.settings.max_paths, self.geometry)
        variances = np.empty((len(slots), 2), np.float32)
        paths = (made.gain, made.u, made.v, made.mask)
        self._kernel.estimate(slots, made.channel, *paths, variances, made.iterations, made.converged, budget)
        made.noise_var[:], made.error_var[:] = variances.T
        return shaped(made, batch)

    def _slot(self, observation: NDArray[Any], budget: Budget | None) -> Slot:
        rows, scale = normalised(self.sensing.gather(observation), self.sensing)
        if not np.isfinite(scale[0]):
            return spoilt()
        found = search(rows[0], self.sensing, self.settings, budget=budget)
        gain = scale[0] * self.sensing.from_middle((found.gain * found.weight)[None], found.u[None], found.v[None])[0]
        order = np.argsort(-np.abs(gain), kind="stable")
        return Slot(
            gain[order],
            found.u[order],
            found.v[order],
            np.ones(len(order), np.bool_),
            float(scale[0]) ** 2 * found.noise_var,
            float(scale[0]) ** 2 * found.error_var,
            found.rounds,
            found.settled,
        )


def compiled(module: Any, sensing: Sensing, operator: Operator, settings: Settings) -> Any:
    """Return the compiled search for one operator: the same tables, the same constants."""
    tables, which = distinct(operator.weights)
    active = np.isin(np.arange(len(which)), sensing.column[0][sensing.valid[0]])
    options = {
        "spacing_y": sensing.geometry.spacing_y,
        "spacing_z": sensing.geometry.spacing_z,
        "low": float(sensing.low[0]),
        "high": float(sensing.high[0]),
        "cell_u": sensing.cell[0],
        "cell_v": sensing.cell[1],
        "cells": float(sensing.cells[0]),
        "rows": float(sensing.rows[0]),
        "faintest": FAINTEST,
        **settings._asdict(),
        "powers": POWERS,
        "apart": APART,
        "peaks": PEAKS_A_ROUND,
        "next_peak": NEXT_PEAK,
        "longest_step": LONGEST_STEP,
        "damping": DAMPING,
        "merge": MERGE,
        "settled": SETTLED,
        "freedom": FREEDOM,
        "path_power": PATH_POWER,
        "certainty": CERTAINTY,
        "rank": _RANK,
        "twin": TWIN,
        "neighbour": NEIGHBOUR,
        "silence": SILENCE,
    }
    which = np.where(active, which, -1).astype(np.int32)
    return module.Kernel(options, which, tables.astype(np.complex128), sensing.grid_u, sensing.grid_v[0])
